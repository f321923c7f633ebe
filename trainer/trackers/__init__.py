"""Experiment trackers beside metrics.csv: one module each, named after its optional library."""
