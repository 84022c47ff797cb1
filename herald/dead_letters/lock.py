"""One replay at a time, whoever starts it: a lock in Valkey that its holder keeps renewing."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from herald.dead_letters.errors import ReplayBrokenError, ReplayBusyError
from herald.settings import Valkey

KEY = "herald:dead-letters:replay"
SECONDS = 12
RENEW_SECONDS = 3.0
_OURS = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call("
_RENEW = f"{_OURS}'expire', KEYS[1], ARGV[2]) end"
_RELEASE = f"{_OURS}'del', KEYS[1]) end"


class Held:
    """The lock while it is ours."""

    def __init__(self, client: redis.Redis, token: str) -> None:
        self._client = client
        self._token = token
        self._renewed = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="replay-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise ReplayBrokenError when another may hold it by now. Ask before each sending."""
        if time.monotonic() - self._renewed > SECONDS / 2:
            raise ReplayBrokenError(
                "the lock of the replay could not be renewed; what was sent is known, run it again"
            )

    def release(self) -> None:
        """Give it back."""
        self._closing.set()
        self._thread.join(5)
        with suppress(redis.RedisError):  # it expires by itself
            self._client.eval(_RELEASE, 1, KEY, self._token)

    def _renew(self) -> None:
        while not self._closing.wait(RENEW_SECONDS):
            begun = time.monotonic()
            with suppress(redis.RedisError):
                if self._client.eval(_RENEW, 1, KEY, self._token, SECONDS):
                    self._renewed = begun


@contextmanager
def replay_lock(valkey: Valkey, *, wait_seconds: float = 20.0) -> Iterator[Held]:
    """Hold the lock. That of a replay that died expires after 12 s, and is waited for.

    Raises:
        ReplayBusyError: another replay is under way.
        ReplayBrokenError: Valkey does not answer.
    """
    client = redis.Redis(
        host=valkey.host,
        port=valkey.port,
        password=valkey.password.get_secret_value(),
        socket_timeout=2,
        socket_connect_timeout=2,
    )
    token = secrets.token_hex(12)
    deadline = time.monotonic() + wait_seconds
    try:
        while not client.set(KEY, token, nx=True, ex=SECONDS):
            if time.monotonic() > deadline:
                raise ReplayBusyError(
                    "another replay is under way; wait for it, then run this again"
                )
            time.sleep(0.25)
    except redis.RedisError as error:
        raise ReplayBrokenError(
            f"Valkey at {valkey.host}:{valkey.port} does not answer ({type(error).__name__}), and "
            "without it two replays could send the same letters; nothing was sent"
        ) from error
    held = Held(client, token)
    try:
        yield held
    finally:
        held.release()
        client.close()
