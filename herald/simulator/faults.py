"""Malformed events: one way to break an event for each error class of the contract."""

from __future__ import annotations

from collections.abc import Callable

from herald.contract.errors import ErrorClass
from herald.contract.events import MAX_EVENT_BYTES
from herald.simulator.encode import EVENT_ID_SLICE

Breaker = Callable[[bytes, str], bytes]


def _members(event: bytes, more: bytes) -> bytes:
    return event[:-1] + b"," + more + b"}"


def _replace(event: bytes, name: bytes, value: bytes) -> bytes:
    """Replace the value of a string member; an event that has none gets it."""
    at = event.find(b'"' + name + b'":"')
    if at < 0:
        return _members(event, b'"' + name + b'":' + value)
    start = at + len(name) + 3
    end = event.index(b'"', start + 1) + 1
    return event[:start] + value + event[end:]


def _without(event: bytes, name: bytes) -> bytes:
    start = event.index(b'"' + name + b'":"')
    end = event.index(b'",', start) + 2
    return event[:start] + event[end:]


BREAKERS: dict[ErrorClass, Breaker] = {
    ErrorClass.EMPTY: lambda event, tenant: b"",
    ErrorClass.TOO_LARGE: lambda event, tenant: _members(
        event, b'"note":"' + b"x" * (MAX_EVENT_BYTES + 1) + b'"'
    ),
    ErrorClass.INVALID_UTF8: lambda event, tenant: _members(event, b'"note":"caf\xe9\xff"'),
    ErrorClass.MALFORMED_JSON: lambda event, tenant: event[: len(event) * 2 // 3],
    ErrorClass.NOT_AN_OBJECT: lambda event, tenant: b"[" + event + b"]",
    ErrorClass.DUPLICATE_KEY: lambda event, tenant: _members(
        event, b'"tenant_id":"' + tenant.encode() + b'"'
    ),
    ErrorClass.RESERVED_NAME: lambda event, tenant: _members(event, b'"_offset":1'),
    ErrorClass.MISSING_FIELD: lambda event, tenant: _without(event, b"tenant_id"),
    ErrorClass.WRONG_TYPE: lambda event, tenant: _replace(event, b"tenant_id", b"42"),
    ErrorClass.UNKNOWN_EVENT_TYPE: lambda event, tenant: _replace(
        event, b"event_type", b'"pigeon.released"'
    ),
    ErrorClass.INVALID_VALUE: lambda event, tenant: _replace(event, b"country", b'"usa"'),
    ErrorClass.TIMESTAMP_IN_FUTURE: lambda event, tenant: _replace(
        event, b"occurred_at", b'"2999-12-31T23:59:59.000Z"'
    ),
    ErrorClass.TIMESTAMP_TOO_OLD: lambda event, tenant: _replace(
        event, b"occurred_at", b'"1970-01-01T00:00:01.000Z"'
    ),
}
"""How to break a valid event so that exactly its class applies first."""

LARGE_EVERY = 10
"""Events that are too large weigh 256 KiB, so only each tenth round has one."""


def next_classes(done: int, count: int) -> list[ErrorClass]:
    """Classes of the next malformed events: all in turn, after `done` of them."""
    found: list[ErrorClass] = []
    classes = list(BREAKERS)
    for turn in range(done, done + count):
        turns, at = divmod(turn, len(classes))
        kind = classes[at]
        if kind is ErrorClass.TOO_LARGE and turns % LARGE_EVERY:
            kind = ErrorClass.MALFORMED_JSON
        found.append(kind)
    return found


def break_event(event: bytes, kind: ErrorClass, event_id: bytes, tenant: str) -> bytes:
    """A copy of a valid encoded event, with its own id, broken in one way."""
    copy = event[: EVENT_ID_SLICE.start] + event_id + event[EVENT_ID_SLICE.stop :]
    return BREAKERS[kind](copy, tenant)
