"""The training loop, its step, and the state of a run."""
