"""From configuration to objects: every `_target_` is resolved, checked and built here."""
