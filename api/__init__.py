"""HTTP service of Herald."""
