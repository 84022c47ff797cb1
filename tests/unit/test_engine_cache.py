"""The cache without a second level, or with one that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from herald.engine.cache import Cache, Shared


def cache(shared: Shared | None = None, *, entries: int = 10, seconds: int = 60) -> Cache:
    return Cache(shared, entries=entries, seconds=seconds, wait_seconds=5)


def never() -> bytes:
    raise AssertionError("computed again")


def test_answer_is_kept_when_asked_again() -> None:
    kept = cache()
    assert kept.get("k", lambda: b"v") == (b"v", "computed")
    assert kept.get("k", never) == (b"v", "process")


def test_oldest_answer_goes_when_full() -> None:
    kept = cache(entries=2)
    for key in ("a", "b"):
        kept.get(key, lambda: b"v")
    kept.get("a", never)
    kept.get("c", lambda: b"v")
    assert kept.get("a", never)[1] == "process"
    assert kept.get("b", lambda: b"again") == (b"again", "computed")


def test_answer_goes_when_its_time_is_over() -> None:
    kept = cache(seconds=1)
    kept.get("k", lambda: b"old")
    time.sleep(1.05)
    assert kept.get("k", lambda: b"new") == (b"new", "computed")


def test_answer_goes_when_cleared() -> None:
    kept = cache()
    kept.get("k", lambda: b"old")
    kept.clear()
    assert kept.get("k", lambda: b"new") == (b"new", "computed")


def test_nothing_is_kept_when_seconds_are_zero() -> None:
    kept = cache(seconds=0)
    assert kept.get("k", lambda: b"1") == (b"1", "off")
    assert kept.get("k", lambda: b"2") == (b"2", "off")


def test_one_computes_when_many_ask_at_once() -> None:
    kept = cache()
    calls: list[int] = []
    start = threading.Barrier(8)

    def slow() -> bytes:
        calls.append(1)
        time.sleep(0.2)
        return b"v"

    def ask(_: int) -> str:
        start.wait()
        return kept.get("k", slow)[1]

    with ThreadPoolExecutor(8) as threads:
        levels = list(threads.map(ask, range(8)))
    assert len(calls) == 1
    assert sorted(levels) == ["computed"] + ["joined"] * 7


def test_error_reaches_all_and_is_not_kept_when_computing_fails() -> None:
    kept = cache()
    start = threading.Barrier(3)

    def fail() -> bytes:
        time.sleep(0.1)
        raise RuntimeError("no")

    def ask(_: int) -> str:
        start.wait()
        with pytest.raises(RuntimeError):
            kept.get("k", fail)
        return "failed"

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(ask, range(3))) == ["failed"] * 3
    assert kept.get("k", lambda: b"v") == (b"v", "computed")


def test_question_is_answered_when_redis_is_away(free_port: Callable[[], int]) -> None:
    shared = Shared(f"redis://127.0.0.1:{free_port()}/0")
    kept = cache(shared)
    assert kept.get("k", lambda: b"v") == (b"v", "computed")
    assert not shared.available
    assert not shared.ping()
    started = time.monotonic()
    for number in range(50):
        kept.get(str(number), lambda: b"v")
    # left out while it is away: no question waits for it again
    assert time.monotonic() - started < 0.2
    shared.close()
