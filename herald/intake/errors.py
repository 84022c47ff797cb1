"""Why a batch is not taken; each error says what the sender can do."""

from __future__ import annotations


class IntakeError(Exception):
    """A batch that is not taken, nothing of it counts.

    status: HTTP status. code: short name. retry_after: seconds after which the same batch may be
    sent again, None where it never will be taken.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class StoreDownError(IntakeError):
    """The store of recent event ids does not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "dedupe_store_away", message, retry_after=5)


class BrokerAwayError(IntakeError):
    """The broker does not answer, or did not acknowledge."""

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(503, "broker_away", message, retry_after=retry_after)


class LagError(IntakeError):
    """Landing is too far behind."""

    def __init__(self, lag: int, limit: int, retry_after: int) -> None:
        super().__init__(
            429,
            "too_far_behind",
            f"{lag} events wait to be landed, at most {limit} may (HERALD_INTAKE__MAX_LAG); "
            "nothing of this batch was taken, send it again later",
            retry_after=retry_after,
        )
