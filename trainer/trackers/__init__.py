"""Experiment trackers beside metrics.csv: one module each, found by its name, over a library that is an extra."""
