"""Metrics: each defined once, here. Imports nothing of the project."""
