"""Sets of offsets as sorted intervals: what of a partition is in the lake."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

Interval = tuple[int, int]
"""First and last, both included."""


class Offsets:
    """Offsets by topic and partition. Immutable: `with_ranges` gives a new one."""

    def __init__(self, intervals: Mapping[tuple[str, int], Iterable[Interval]] | None = None):
        self._intervals = {k: _merged(v) for k, v in (intervals or {}).items()}

    @classmethod
    def parse(cls, text: str) -> Offsets:
        """Inverse of `text`; nothing for ''."""
        found = json.loads(text or "[]")
        return cls({(t, p): [(a, b) for a, b in intervals] for t, p, intervals in found})

    def text(self) -> str:
        """As one JSON text."""
        return json.dumps([[t, p, v] for (t, p), v in sorted(self._intervals.items())])

    def covers(self, topic: str, partition: int, first: int, last: int) -> bool:
        """Whether every offset first..last is in the set."""
        found = self._intervals.get((topic, partition), ())
        return any(a <= first and last <= b for a, b in found)

    def overlaps(self, topic: str, partition: int, first: int, last: int) -> bool:
        """Whether any offset of first..last is in the set."""
        found = self._intervals.get((topic, partition), ())
        return any(a <= last and first <= b for a, b in found)

    def with_ranges(self, ranges: Iterable[tuple[str, int, int, int]]) -> Offsets:
        """The set with (topic, partition, first, last) added."""
        new = {k: list(v) for k, v in self._intervals.items()}
        for topic, partition, first, last in ranges:
            new.setdefault((topic, partition), []).append((first, last))
        return Offsets(new)

    def items(self) -> list[tuple[str, int, list[Interval]]]:
        """Intervals by topic and partition, in order."""
        return [(t, p, list(v)) for (t, p), v in sorted(self._intervals.items())]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Offsets) and self._intervals == other._intervals

    def __hash__(self) -> int:
        return hash(self.text())


def _merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    result: list[Interval] = []
    for first, last in sorted(intervals):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)
