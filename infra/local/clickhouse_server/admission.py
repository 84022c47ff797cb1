"""How many queries run at once, and who is next: one queue a user, served in turn."""

from __future__ import annotations

import asyncio
from collections import deque

from infra.local.clickhouse_server.errors import ClientLeftError, Code, refuse


class Admission:
    """Slots for running queries with a fair, bounded queue.

    A user with a hundred waiting queries and a user with one are served alternately. Must be used
    from one event loop.
    """

    def __init__(self, slots: int, queued: int, timeout_seconds: float) -> None:
        self._slots = slots
        self._max_queued = queued
        self._timeout = timeout_seconds
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self.running = 0
        self.queued = 0

    async def enter(self, user: str, gone: asyncio.Future[None]) -> None:
        """Wait for a slot.

        Args:
            user: whose queue to stand in.
            gone: done when the client has left, which ends the wait.

        Raises:
            ServerError: 202 when the queue is full or the wait too long.
            ClientLeftError: the client left the queue.
        """
        if self.running < self._slots and not self.queued:
            self.running += 1
            return
        if self.queued >= self._max_queued:
            raise refuse(
                Code.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many simultaneous queries. Maximum: {self._slots} running and "
                f"{self._max_queued} waiting. Try again later",
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(turn)
        self.queued += 1
        try:
            await asyncio.wait(
                {turn, gone}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            if not self._forget(user, turn):
                self.leave()
            raise
        if gone.done():
            if not self._forget(user, turn):
                self.leave()
            raise ClientLeftError
        if self._forget(user, turn):
            raise refuse(
                Code.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many simultaneous queries. Maximum: {self._slots}. Waited "
                f"{self._timeout:g} s for a turn. Try again later",
            )

    def leave(self) -> None:
        """Give a slot back; it goes to the user whose turn is longest ago."""
        self.running -= 1
        while self.queued and self.running < self._slots:
            user, line = next(iter(self._waiting.items()))
            del self._waiting[user]
            turn = line.popleft()
            if line:
                self._waiting[user] = line  # to the end of the round
            self.queued -= 1
            self.running += 1
            turn.set_result(None)

    def _forget(self, user: str, turn: asyncio.Future[None]) -> bool:
        """Leave the queue; False when the turn had come already."""
        if turn.done():
            return False
        line = self._waiting[user]
        line.remove(turn)
        if not line:
            del self._waiting[user]
        self.queued -= 1
        return True
