"""Bytes to tensors: runs, their checkpoints, and the layers in them."""
