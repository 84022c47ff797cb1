"""Entry points, one a stream."""
