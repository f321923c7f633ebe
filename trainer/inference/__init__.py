"""Use finished runs: evaluate, predict, export."""
