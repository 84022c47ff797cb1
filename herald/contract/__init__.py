"""The event contract: what producers may send, and how it is stored."""
