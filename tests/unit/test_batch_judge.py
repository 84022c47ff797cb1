"""The judgement of batches over HTTP: alike for few events and for many."""

from __future__ import annotations

import json
from typing import Any

from api.judging import FEW, BatchJudge
from herald.contract.judging import Limits
from herald.settings import Landing


def event(number: int, **changes: Any) -> bytes:
    base = {
        "event_id": f"0192d3a4-5b6c-7d8e-9f06-{number:012d}",
        "tenant_id": "acme",
        "event_type": "push.sent",
        "occurred_at": "2026-01-02T03:04:05Z",
    }
    return json.dumps({**base, **changes}).encode()


BAD = [
    (event(1, country="de"), "invalid_value", "country", "'de'"),
    (event(2, tenant_id=7), "wrong_type", "tenant_id", "7"),
    (event(3, event_type="push.flew"), "unknown_event_type", "event_type", "'push.flew'"),
    (event(4, occurred_at="2199-01-01T00:00:00Z"), "timestamp_in_future", "occurred_at", "2199-"),
    (b"{", "malformed_json", "", ""),
]


def test_refusals_are_the_same_when_a_batch_is_small_or_large() -> None:
    judge = BatchJudge(Limits.of(Landing()))
    good = [event(n) for n in range(10, 10 + FEW)]
    bad = [value for value, *_ in BAD]
    few, many = judge(bad), judge([*good, *bad, *good])
    assert list(few) == list(range(len(BAD)))
    assert sorted(many) == [FEW + n for n in range(len(BAD))]
    for n, (_, error_class, field, value) in enumerate(BAD):
        for error in (few[n], many[FEW + n]):
            assert (error.error_class.value, error.field) == (error_class, field)
            assert error.value.startswith(value)
            assert error.rule
            assert error.rule in error.message
    assert judge(good) == {}
