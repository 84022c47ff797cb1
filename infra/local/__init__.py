"""The embedded runtime: every engine of the platform on one machine, without Docker."""
