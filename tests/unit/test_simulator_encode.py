"""Byte-matrix encoding against the plain Python way of doing the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from herald.simulator import encode

MOMENTS = st.lists(st.integers(0, 4_102_444_799_999), min_size=1, max_size=20)


@settings(deadline=None)
@given(MOMENTS)
def test_timestamps_read_back_to_the_millisecond_when_any_moment_is_given(ms: list[int]) -> None:
    rows = encode.timestamps(np.array(ms, dtype=np.int64))
    texts = [row.tobytes().decode() for row in rows]
    expected = [datetime.fromtimestamp(m // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") for m in ms]
    assert texts == [f"{e}.{m % 1000:03d}Z" for e, m in zip(expected, ms, strict=True)]


@settings(deadline=None)
@given(MOMENTS)
def test_uuid7_carries_its_time_and_version_when_read_by_the_library(ms: list[int]) -> None:
    bits = encode.random_bits(np.random.default_rng(1), len(ms))
    for row, moment in zip(encode.uuid7(np.array(ms, dtype=np.int64), bits), ms, strict=True):
        found = UUID(row.tobytes().decode())
        assert found.version == 7
        assert found.variant == "specified in RFC 4122"
        assert found.int >> 80 == moment


def test_mix64_gives_distinct_numbers_when_counters_are_distinct() -> None:
    mixed = encode.mix64(np.arange(200_000, dtype=np.uint64), key=99)
    assert len(np.unique(mixed)) == 200_000
    assert (mixed != encode.mix64(np.arange(200_000, dtype=np.uint64), key=98)).all()


def test_hex16_equals_the_format_of_python_when_numbers_are_extreme() -> None:
    numbers = np.array([0, 1, 2**64 - 1, 0xDEADBEEF], dtype=np.uint64)
    texts = [row.tobytes().decode() for row in encode.hex16(numbers)]
    assert texts == [f"{int(n):016x}" for n in numbers]


def test_heads_leave_the_event_id_in_its_slice_when_joined_to_a_tail() -> None:
    at = np.array([1_790_000_000_123], dtype=np.int64)
    head = encode.heads(at, at + 1_000, np.random.default_rng(0))[0]
    event = json.loads(head + '"event_type":"email.sent"}')
    assert event["occurred_at"] == "2026-09-21T14:13:20.123Z"
    assert event["ingested_at"] == "2026-09-21T14:13:21.123Z"
    assert head[encode.EVENT_ID_SLICE] == event["event_id"]


def test_fragment_leaves_out_empty_fields_when_building_members() -> None:
    text = encode.fragment({"a": "é", "b": "", "c": None, "d": False, "e": 0})
    assert text == '"a":"é","e":0,'
    assert encode.fragment({"b": ""}) == ""


def test_text_matrix_is_empty_when_there_are_no_rows() -> None:
    assert encode.text_matrix(0, ["u_", np.empty((0, 16), dtype=np.uint8)]).to_list() == []
