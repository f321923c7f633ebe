"""The command line: `train`, and one module for each verb of `trainer`."""
