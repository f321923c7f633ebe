"""CSV files: read, typed by column, prepared."""
