"""`trainer doctor`: checks of machine, configuration, data and training before a run."""
