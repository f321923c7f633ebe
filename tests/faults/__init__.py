"""Faults that are injected into the program, and what must be true afterwards. See docs/reliability.md."""
