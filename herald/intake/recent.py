"""Which events were taken lately, in Valkey: a retry of a batch counts once.

An id is first claimed, then confirmed once the broker acknowledged it. A claim that is left over
(the process died, the broker's answer never came) is looked up on the topic itself before the event
is sent again: see `herald.intake.service`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis

from herald.intake.errors import StoreDownError

PREFIX = "herald:intake:"
DONE = b"1"
# deletes only what this claim still holds
_RELEASE = """
for _, key in ipairs(KEYS) do
  if redis.call('get', key) == ARGV[1] then redis.call('del', key) end
end"""
_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """Who holds an id: its token, when it was made (unix seconds), where the topic ended then.

    ended: the request that made it is over, without knowing what the broker kept.
    """

    token: str
    at: float
    starts: Mapping[int, int]
    ended: bool = False

    @classmethod
    def new(cls, starts: Mapping[int, int]) -> Claim:
        """A claim made now."""
        return cls(secrets.token_hex(12), time.time(), dict(starts))


class RecentIds:
    """One Valkey. Thread-safe."""

    def __init__(self, url: str, seconds: int, *, timeout_seconds: float = 2.0) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds
        )
        self._where = url.rpartition("@")[2]
        self._seconds = seconds

    def claim(self, ids: Sequence[str], claim: Claim) -> list[bytes | None]:
        """Take ids. For each: None when it is ours now, `DONE`, or the token of who holds it.

        Raises:
            StoreDownError: no answer; some ids may be taken, `release` frees them.
        """
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(self._batch(claim.token), self._record(claim), ex=self._seconds)
                for one in ids:
                    pipe.set(PREFIX + one, claim.token, nx=True, get=True, ex=self._seconds)
                answers: list[bytes | None] = pipe.execute()[1:]
        except redis.RedisError as error:
            raise self._down(error) from error
        return answers

    def holder(self, token: str) -> Claim | None:
        """The claim of a token, or None where it is no longer known."""
        try:
            found = self._redis.get(self._batch(token))
        except redis.RedisError as error:
            raise self._down(error) from error
        if not isinstance(found, bytes):
            return None
        record = json.loads(found)
        starts = {int(p): int(o) for p, o in record["starts"].items()}
        return Claim(token, float(record["at"]), starts, ended=bool(record["ended"]))

    def confirm(self, ids: Sequence[str]) -> None:
        """The broker has them."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for one in ids:
                    pipe.set(PREFIX + one, DONE, ex=self._seconds)
                pipe.execute()
        except redis.RedisError as error:
            raise self._down(error) from error

    def release(self, ids: Sequence[str], token: str) -> None:
        """Free ids that were certainly not sent, where this token still holds them."""
        try:
            for start in range(0, len(ids), _CHUNK):
                keys = [PREFIX + one for one in ids[start : start + _CHUNK]]
                self._redis.eval(_RELEASE, len(keys), *keys, token)
        except redis.RedisError as error:
            raise self._down(error) from error

    def end(self, claim: Claim) -> None:
        """Note that the request is over and what it claimed must be looked up."""
        ended = Claim(claim.token, claim.at, claim.starts, ended=True)
        try:
            self._redis.set(self._batch(claim.token), self._record(ended), ex=self._seconds)
        except redis.RedisError as error:
            raise self._down(error) from error

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    @staticmethod
    def _batch(token: str) -> str:
        return f"{PREFIX}batch:{token}"

    @staticmethod
    def _record(claim: Claim) -> str:
        return json.dumps({"at": claim.at, "starts": claim.starts, "ended": claim.ended})

    def _down(self, error: redis.RedisError) -> StoreDownError:
        return StoreDownError(
            f"Valkey at {self._where} does not answer ({type(error).__name__}), and without it a "
            "retry could count twice; nothing is lost, send the batch again"
        )
