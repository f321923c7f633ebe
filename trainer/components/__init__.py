"""The objects of a run, built from its configuration: every `_target_` is resolved, checked and built here."""
