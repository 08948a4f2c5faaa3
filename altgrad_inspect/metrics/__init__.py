"""Metrics: pure functions from tensors to frozen records."""
