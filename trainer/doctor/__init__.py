"""`trainer doctor`: what is wrong with machine, configuration and data, found before a run and not after it."""
