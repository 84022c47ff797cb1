"""Chaos: kills and faults against a running platform, counted against what was produced."""
