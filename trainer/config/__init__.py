"""Compose words and YAML files into one typed configuration. Imports no torch."""
