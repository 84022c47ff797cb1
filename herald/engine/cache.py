"""Answers kept in process and in Redis, and one computation for many who ask the same.

A failure of Redis never fails a question: the second level is then left out for some seconds.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

import redis

log = logging.getLogger(__name__)

Level = Literal["process", "shared", "joined", "computed", "off"]
PREFIX = "herald:answer:"
OUTAGE_SECONDS = 5.0
POLL_SECONDS = 0.02
MAX_SHARED_BYTES = 8 * 1024**2
# deletes the lock only of the one who holds it: it may have expired and be another's by now
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"


class Shared:
    """The second level. Every method is a miss or a no-op while Redis does not answer."""

    def __init__(self, url: str, *, timeout_seconds: float = 0.25) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=None,
            single_connection_client=False,
        )
        self._away_until = 0.0

    @property
    def available(self) -> bool:
        """Whether Redis answered lately."""
        return time.monotonic() >= self._away_until

    def ping(self) -> bool:
        """Ask Redis whether it is there."""
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        value = self._call(lambda: self._redis.get(PREFIX + key))
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes, seconds: int) -> None:
        """Keep a value for some seconds, unless it is very large."""
        if len(value) <= MAX_SHARED_BYTES:
            self._call(lambda: self._redis.set(PREFIX + key, value, ex=seconds))

    def lock(self, key: str, seconds: int) -> str | None:
        """Become the one who computes: a token, '' when Redis is away, None when another is."""
        token = secrets.token_hex(8)
        name = f"{PREFIX}lock:{key}"
        taken = self._call(lambda: bool(self._redis.set(name, token, nx=True, ex=seconds)))
        if taken is None:
            return ""
        return token if taken else None

    def is_locked(self, key: str) -> bool:
        """Whether somebody computes the value."""
        return bool(self._call(lambda: self._redis.exists(f"{PREFIX}lock:{key}")))

    def unlock(self, key: str, token: str) -> None:
        """Give the lock back, if it is still ours."""
        if token:
            self._call(lambda: self._redis.eval(RELEASE, 1, f"{PREFIX}lock:{key}", token))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _call(self, call: Callable[[], object]) -> object | None:
        if not self.available:
            return None
        try:
            return call()
        except redis.RedisError as error:
            self._away_until = time.monotonic() + OUTAGE_SECONDS
            log.warning(
                "cache: Redis does not answer (%s); left out for %.0f s", error, OUTAGE_SECONDS
            )
            return None


class Cache:
    """Both levels and the single flight.

    Args:
        shared: the second level, or None.
        entries: how many answers the process keeps; 0 keeps none.
        seconds: how long an answer is good; 0 switches both levels off, the single flight stays.
        wait_seconds: how long to wait for another process that computes the same.
    """

    def __init__(
        self, shared: Shared | None, *, entries: int, seconds: int, wait_seconds: int
    ) -> None:
        self.shared = shared
        self.configure(entries=entries, seconds=seconds, wait_seconds=wait_seconds)
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._flights: dict[str, Future[bytes]] = {}
        self._lock = threading.Lock()

    def configure(self, *, entries: int, seconds: int, wait_seconds: int) -> None:
        """Change the limits from now on."""
        self._entries, self._seconds, self._wait = entries, seconds, wait_seconds

    def get(self, key: str, compute: Callable[[], bytes]) -> tuple[bytes, Level]:
        """The answer, and where it came from. An error of `compute` reaches all who wait for it."""
        with self._lock:
            found = self._recent(key)
            if found is not None:
                return found, "process"
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not leads:
            return flight.result(), "joined"
        try:
            value, level = self._lead(key, compute)
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._flights[key]
            self._keep(key, value)
        flight.set_result(value)
        return value, level

    def clear(self) -> None:
        """Forget what this process keeps."""
        with self._lock:
            self._kept.clear()

    def _lead(self, key: str, compute: Callable[[], bytes]) -> tuple[bytes, Level]:
        shared = self.shared
        if shared is None or self._seconds == 0:
            return compute(), "off" if self._seconds == 0 else "computed"
        found = shared.get(key)
        if found is not None:
            return found, "shared"
        token = shared.lock(key, self._wait)
        if token is None:
            found = self._await(shared, key)
            if found is not None:
                return found, "joined"
        try:
            value = compute()
            shared.put(key, value, self._seconds)
        finally:
            shared.unlock(key, token or "")
        return value, "computed"

    def _await(self, shared: Shared, key: str) -> bytes | None:
        """The answer another process is computing; None when it gave up."""
        deadline = time.monotonic() + self._wait
        while time.monotonic() < deadline and shared.available:
            working = shared.is_locked(key)
            found = shared.get(key)
            if found is not None or not working:
                return found
            time.sleep(POLL_SECONDS)
        return None

    def _recent(self, key: str) -> bytes | None:
        entry = self._kept.get(key)
        if entry is None:
            return None
        if entry[0] < time.monotonic():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return entry[1]

    def _keep(self, key: str, value: bytes) -> None:
        if self._seconds == 0 or self._entries == 0:
            return
        self._kept[key] = (time.monotonic() + self._seconds, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)
