"""Data sets, their splits and their batches."""
