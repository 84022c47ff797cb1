"""A send that never was, happening now: to see the live page work without a real one."""
