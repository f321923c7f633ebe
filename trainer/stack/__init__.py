"""Runs whose tensors have the same shapes, trained in one pass."""
