"""What stands in a run or sweep folder: written, found and read again. Imports no torch."""
