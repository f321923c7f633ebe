"""The loop, its step, and the state of a run."""
