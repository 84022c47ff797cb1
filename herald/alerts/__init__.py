"""Alerts over the live counts: rules as data, judged by pure functions, told to destinations."""
