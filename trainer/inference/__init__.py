"""Trained runs put to use: evaluate, predict, export."""
