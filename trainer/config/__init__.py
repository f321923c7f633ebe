"""Compose words and YAML files into one typed configuration. Does not import torch."""
