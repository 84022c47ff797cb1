"""Pure functions over Arrow batches."""
