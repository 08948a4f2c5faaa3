"""Values to codes: quantizer specifications, scales, and encoding on tensors."""
