"""Arrays of NumPy and safetensors files as data sources."""
