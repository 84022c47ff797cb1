"""Infrastructure as code."""
