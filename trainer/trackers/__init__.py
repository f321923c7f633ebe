"""Trackers of experiments beside metrics.csv: thin adapters, each over its own library, imported when it is chosen."""
