"""What an importer hands to the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from herald.simulator.encode import mix64, uuid7
from herald.sources.producer import Record

BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Imported:
    """Events of a public data set, in order, and how many real things they stand for.

    references: records by stream (`campaigns`, `templates`).
    mapped: real rows by kind, such as impressions and clicks.
    """

    name: str
    references: dict[str, list[Record]]
    events: list[Record]
    mapped: dict[str, int]

    @property
    def total(self) -> int:
        """Number of events."""
        return len(self.events)

    def batches(self, rows: int = 0) -> Iterator[list[Record]]:
        """Events in parts of `rows`, or of a good size."""
        step = rows or BATCH_ROWS
        for start in range(0, len(self.events), step):
            yield self.events[start : start + step]


def event_ids(occurred_ms: list[int], salt: str) -> list[str]:
    """UUIDv7 of each event, the same whenever the same rows are imported.

    salt names the data set; two events of one salt differ by their position.
    """
    key = int.from_bytes(salt.encode()[:8].rjust(8, b"\0"), "big") ^ _checksum(salt)
    numbers = np.arange(len(occurred_ms), dtype=np.uint64)
    bits = np.stack([mix64(numbers, key), mix64(numbers, key ^ 0xB175)], axis=1)
    digits = uuid7(np.array(occurred_ms, dtype=np.int64), bits)
    text = digits.tobytes().decode()
    return [text[at : at + 36] for at in range(0, len(text), 36)]


def record(key: str, value: Mapping[str, Any]) -> Record:
    """One record with its value as compact JSON; empty fields are left out."""
    return key, orjson.dumps({k: v for k, v in value.items() if v not in ("", None)})


def _checksum(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode()) << 20
