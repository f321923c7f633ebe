"""The commands: one module for each verb of `trainer`, and `train` itself."""
