"""Spark jobs: pure transforms, sinks, sources and the jobs that wire them."""
