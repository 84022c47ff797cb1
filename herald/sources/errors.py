"""Failures of sources, each with a message that says what to do."""

from __future__ import annotations


class SourceError(Exception):
    """Input that cannot be read, or output that was not delivered."""


class BrokerDownError(SourceError):
    """No broker answers."""
