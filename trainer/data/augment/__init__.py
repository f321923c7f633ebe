"""Random variation of training samples, on the device."""
