"""What is happening now: rollups of raw.events, the live page's snapshot, and their recount."""
