"""The engine: who computes what, where and in which order."""
