"""A sliding window in memory: 60 slots, of which a tick reads the newest and some older anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from herald.live.rollups import COUNTS, MONEY

SLOTS = 60
COLUMNS = (*COUNTS, "events", *MONEY)
POSITION = {name: index for index, name in enumerate(COLUMNS)}
FIRST_KEYS = 64

Key = tuple[str, ...]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """Counts of one key in one slot; `kind` says by what the rows were grouped."""

    kind: str
    key: Key
    slot: int
    values: Sequence[float]


@dataclass
class Table:
    """Counts by key and slot of one kind."""

    keys: dict[Key, int] = field(default_factory=dict)
    values: Floats = field(default_factory=lambda: np.zeros((FIRST_KEYS, SLOTS, len(COLUMNS))))

    def put(self, key: Key, place: int, values: Sequence[float]) -> None:
        """Set the counts of a key in one place of the ring."""
        index = self.keys.setdefault(key, len(self.keys))
        if index == len(self.values):
            self.values = np.concatenate([self.values, np.zeros_like(self.values)])
        self.values[index, place] = values

    def forget(self, place: int) -> None:
        """Empty one place of the ring."""
        self.values[: len(self.keys), place] = 0.0

    def drop_empty(self) -> None:
        """Forget keys that count nothing any more, so that a long day does not pile them up."""
        alive = [key for key, i in self.keys.items() if self.values[i].any()]
        if len(alive) < len(self.keys) // 2:
            kept = self.values[[self.keys[key] for key in alive]]
            self.keys = {key: i for i, key in enumerate(alive)}
            self.values = np.zeros((max(FIRST_KEYS, 2 * len(alive)), *kept.shape[1:]))
            self.values[: len(alive)] = kept

    def totals(self) -> dict[Key, Floats]:
        """Counts over the window by key."""
        sums = self.values[: len(self.keys)].sum(axis=1)
        return {key: sums[index] for key, index in self.keys.items()}

    def series(self, key: Key, order: Sequence[int]) -> Floats:
        """Counts of a key by slot, of shape (slots, columns), in the order of the places."""
        series: Floats = self.values[self.keys[key], order]
        return series


class Window:
    """Counts of the last 60 slots by kind and key.

    A slot is `seconds` long; slot n is [n * seconds, (n + 1) * seconds) of Unix time. The newest
    slot is still filling, so the window is 59 to 60 slots long.
    """

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._tables: dict[str, Table] = {}
        self._last = -1
        self._rotation = 0

    @property
    def first(self) -> int:
        """Oldest slot."""
        return self._last - SLOTS + 1

    @property
    def last(self) -> int:
        """Newest slot."""
        return self._last

    def advance(self, now: float) -> bool:
        """Move the window to an instant; true when a slot was left behind."""
        last = int(now // self.seconds)
        if last <= self._last:
            return False
        for slot in range(max(self._last + 1, last - SLOTS + 1), last + 1):
            for table in self._tables.values():
                table.forget(slot % SLOTS)
        self._last = last
        for table in self._tables.values():
            table.drop_empty()
        return True

    def rotating(self, slots: int, before: int) -> list[tuple[int, int]]:
        """Spans [first, last) of older slots to read again, others each time.

        Args:
            slots: how many.
            before: slots from here on are left out, they are read anyway.
        """
        older = max(0, before - self.first)
        if older <= slots:
            return [(self.first, before)] if older else []
        start = self._rotation % older
        self._rotation = start + slots
        first, last = self.first + start, self.first + start + slots
        over = last - before
        return [(first, before), (self.first, self.first + over)] if over > 0 else [(first, last)]

    def replace(self, slots: Iterable[int], rows: Iterable[Row]) -> None:
        """Put what the rollup says about some slots in place of what was known."""
        places = {slot % SLOTS for slot in slots if self.first <= slot <= self._last}
        for table in self._tables.values():
            for place in places:
                table.forget(place)
        for row in rows:
            if self.first <= row.slot <= self._last:
                table = self._tables.setdefault(row.kind, Table())
                table.put(row.key, row.slot % SLOTS, row.values)

    def table(self, kind: str) -> Table:
        """Counts of one kind; empty when nothing has come."""
        return self._tables.get(kind) or Table()

    def order(self) -> list[int]:
        """Places of the ring, oldest slot first."""
        return [slot % SLOTS for slot in range(self.first, self._last + 1)]

    def starts(self) -> list[int]:
        """Start of each slot in Unix seconds, oldest first."""
        return [slot * self.seconds for slot in range(self.first, self._last + 1)]
