"""A ClickHouse-compatible HTTP server over the embedded chDB engine."""
