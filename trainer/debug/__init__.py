"""What looks into a run from outside, by hooks, when it is asked for."""
