"""The interface from Python: `trainer.train`, `trainer.sweep` and the objects that they return."""
