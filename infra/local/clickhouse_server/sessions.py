"""HTTP sessions: an engine connection kept between requests, with its temporary tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infra.local.clickhouse_server.errors import Code, refuse


@dataclass(slots=True)
class HttpSession:
    """One client's session; `connection` is the engine's, opened by its first query."""

    key: tuple[str, str]
    connection: Any = None
    is_busy: bool = False
    expires: float = field(default=0.0)


class Sessions:
    """Sessions by (user, id). Used from the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[tuple[str, str], HttpSession] = {}

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, user: str, session_id: str, *, must_exist: bool) -> HttpSession:
        """Take a session for one query.

        Raises:
            ServerError: 372 when it must exist and does not, 373 while another query has it.
        """
        self.expire()
        key = (user, session_id)
        session = self._open.get(key)
        if session is None:
            if must_exist:
                raise refuse(Code.SESSION_NOT_FOUND, f"Session {session_id} not found")
            session = self._open[key] = HttpSession(key)
        if session.is_busy:
            raise refuse(
                Code.SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client"
            )
        session.is_busy = True
        return session

    def leave(self, session: HttpSession, timeout_seconds: int) -> None:
        """Give it back; it is dropped when nobody takes it for that long."""
        session.is_busy = False
        session.expires = self._clock() + timeout_seconds

    def expire(self) -> None:
        """Close the sessions whose time is over."""
        now = self._clock()
        for key, session in list(self._open.items()):
            if not session.is_busy and session.expires <= now:
                del self._open[key]
                self._close(session)

    def close(self) -> None:
        """Close all of them."""
        for session in self._open.values():
            self._close(session)
        self._open.clear()

    @staticmethod
    def _close(session: HttpSession) -> None:
        if session.connection is not None:
            session.connection.close()
            session.connection = None
