"""Sweeps: their jobs, the order of the jobs, and worker processes."""
