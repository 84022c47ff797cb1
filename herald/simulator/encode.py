"""Fast text: ids, times and JSON assembled as byte matrices, without a Python loop over events.

An event is the concatenation of three pieces: a head of fixed width (ids and times), the fragment
its message shares with the message's other events, and a tail from a small dictionary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

MS_PER_SECOND = 1_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000

_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), dtype=np.uint16)
_CLOCK = np.frombuffer(
    b"".join(b"%02d:%02d:%02d" % (s // 3600, s // 60 % 60, s % 60) for s in range(86_400)),
    dtype="V8",
)
_MILLIS = np.frombuffer(b"".join(b"%03d" % i for i in range(1000)), dtype="V3")

HEAD = '{"event_id":"","occurred_at":"","ingested_at":"",'
"""What every event starts with, before its values are filled in."""

EVENT_ID_SLICE = slice(13, 49)
"""Where the event id stands in an encoded event."""


def compact(fields: Mapping[str, Any]) -> str:
    """JSON object with compact separators, UTF-8 kept as it is."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def fragment(fields: Mapping[str, Any]) -> str:
    """Members of a JSON object with a trailing comma; empty fields are left out."""
    kept = {k: v for k, v in fields.items() if v is not None and v is not False and v != ""}
    return compact(kept)[1:-1] + "," if kept else ""


def mix64(values: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit numbers one to one (splitmix64), so that counters become distinct ids."""
    z = values.astype(np.uint64) + np.uint64(key & 0xFFFFFFFFFFFFFFFF)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def hex16(values: npt.NDArray[np.uint64]) -> Bytes:
    """Sixteen lower-case hex digits of each number, shape (n, 16)."""
    octets = values.astype(">u8").view(np.uint8).reshape(-1, 8)
    return _HEX[octets].view(np.uint8).reshape(-1, 16)


def timestamps(ms: Ints) -> Bytes:
    """RFC 3339 UTC with milliseconds of Unix times in ms, shape (n, 24)."""
    out = np.empty((len(ms), 24), dtype=np.uint8)
    if not len(ms):
        return out
    days, in_day = np.divmod(ms, MS_PER_DAY)
    first = int(days.min())
    calendar = np.arange(first, int(days.max()) + 1).astype("datetime64[D]")
    table = np.datetime_as_string(calendar).astype("S10").view("V10")
    seconds, millis = np.divmod(in_day, MS_PER_SECOND)
    out[:, 0:10] = table[days - first].view(np.uint8).reshape(-1, 10)
    out[:, 10] = ord("T")
    out[:, 11:19] = _CLOCK[seconds].view(np.uint8).reshape(-1, 8)
    out[:, 19] = ord(".")
    out[:, 20:23] = _MILLIS[millis].view(np.uint8).reshape(-1, 3)
    out[:, 23] = ord("Z")
    return out


def random_bits(rng: np.random.Generator, rows: int) -> npt.NDArray[np.uint64]:
    """Two random 64-bit numbers a row, for `uuid7`."""
    return rng.integers(0, 2**64, size=(rows, 2), dtype=np.uint64)


def uuid7(ms: Ints, random: npt.NDArray[np.uint64]) -> Bytes:
    """UUIDv7 text of Unix times in ms, shape (n, 36); `random` is of shape (n, 2)."""
    n = len(ms)
    out = np.empty((n, 36), dtype=np.uint8)
    high = (ms.astype(np.uint64) << np.uint64(16)) | np.uint64(0x7000)
    high |= random[:, 0] & np.uint64(0x0FFF)
    low = (random[:, 1] >> np.uint64(2)) | np.uint64(0x8000000000000000)
    a, b = hex16(high), hex16(low)
    out[:, 0:8], out[:, 9:13], out[:, 14:18] = a[:, 0:8], a[:, 8:12], a[:, 12:16]
    out[:, 19:23], out[:, 24:36] = b[:, 0:4], b[:, 4:16]
    out[:, [8, 13, 18, 23]] = ord("-")
    return out


def heads(occurred_ms: Ints, ingested_ms: Ints, rng: np.random.Generator) -> pl.Series:
    """The fixed-width start of each event: event id, time of occurrence, time of ingestion."""
    parts = HEAD.split('""')
    ids = uuid7(occurred_ms, random_bits(rng, len(occurred_ms)))
    return text_matrix(
        len(occurred_ms),
        [
            parts[0] + '"', ids, '"' + parts[1] + '"',
            timestamps(occurred_ms), '"' + parts[2] + '"', timestamps(ingested_ms),
            '"' + parts[3],
        ],
    )  # fmt: skip


def text_matrix(rows: int, pieces: Sequence[str | Bytes]) -> pl.Series:
    """Join constant texts and byte matrices of `rows` rows into one string column."""
    blocks = [
        np.frombuffer(p.encode(), dtype=np.uint8) if isinstance(p, str) else p for p in pieces
    ]
    width = sum(b.shape[-1] for b in blocks)
    out = np.empty((rows, width), dtype=np.uint8)
    at = 0
    for block in blocks:
        out[:, at : at + block.shape[-1]] = block
        at += block.shape[-1]
    offsets = np.arange(0, (rows + 1) * width, width or 1, dtype=np.int64)[: rows + 1]
    array = pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(out))
    return pl.Series(pl.from_arrow(array))
