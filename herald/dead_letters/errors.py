"""What can be wrong with a request about dead letters."""

from __future__ import annotations


class DeadLetterError(Exception):
    """A request that cannot be met; the message names the option and what it may be."""


class FixUpError(DeadLetterError):
    """The fix-up is no expression, or cannot be applied."""


class ReplayBusyError(DeadLetterError):
    """Another replay is under way."""


class ReplayBrokenError(DeadLetterError):
    """Broker, Valkey or warehouse went away; running the replay again goes on."""
