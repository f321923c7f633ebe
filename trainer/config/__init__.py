"""From words and YAML files to one typed configuration. Imports no torch."""
