"""Files of run and sweep folders: one value, one reader and one writer each. Imports no torch."""
