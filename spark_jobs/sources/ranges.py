"""Offset ranges: how a batch is cut so that every replay cuts alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One partition of one topic."""

    topic: str
    partition: int

    @property
    def key(self) -> str:
        """Name in a checkpoint."""
        return f"{self.topic}/{self.partition}"

    @classmethod
    def of(cls, key: str) -> Slot:
        """Inverse of `key`."""
        topic, _, partition = key.rpartition("/")
        return cls(topic, int(partition))


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets first..last (both included) of one partition, landed by one insert.

    planned_at_ms is the clock that its times are judged by, the same at every replay.
    """

    topic: str
    partition: int
    first: int
    last: int
    planned_at_ms: int = 0

    @property
    def token(self) -> str:
        """What the warehouse knows a retry by."""
        return f"{self.topic}/{self.partition}/{self.first}-{self.last}"

    @property
    def slot(self) -> Slot:
        """Where it was cut from."""
        return Slot(self.topic, self.partition)

    def __len__(self) -> int:
        return self.last - self.first + 1


class PlanError(Exception):
    """Checkpoint, ledger and broker contradict each other; the message says how to go on."""


def cut(
    slot: Slot, start: int, end: int, size: int, planned: Iterable[OffsetRange], now_ms: int
) -> list[OffsetRange]:
    """Ranges that cover start..end-1 without gap or overlap.

    Ranges planned before are repeated as they were; the rest is cut at multiples of `size`.

    Raises:
        PlanError: a planned range lies across an end of the interval.
    """
    ranges: list[OffsetRange] = []
    position = start
    for known in sorted(r for r in planned if r.slot == slot and start <= r.last and r.first < end):
        if known.first < position or known.last >= end:
            raise PlanError(
                f"{slot.key}: planned range {known.first}-{known.last} does not fit between "
                f"{position} and {end - 1}; remove the checkpoint, the ledger has the truth"
            )
        ranges += _even(slot, position, known.first, size, now_ms)
        ranges.append(known)
        position = known.last + 1
    return ranges + _even(slot, position, end, size, now_ms)


def _even(slot: Slot, start: int, end: int, size: int, now_ms: int) -> list[OffsetRange]:
    ranges = []
    while start < end:
        stop = min(end, (start // size + 1) * size)
        ranges.append(OffsetRange(slot.topic, slot.partition, start, stop - 1, now_ms))
        start = stop
    return ranges


def batch_ends(
    starts: Mapping[Slot, int],
    highs: Mapping[Slot, int],
    limit: int,
    size: int,
    planned: Sequence[OffsetRange],
) -> dict[Slot, int]:
    """Where a batch ends: at most about `limit` offsets, shared evenly by partitions that have any.

    A cut-off end falls on a multiple of `size` where it can, and never inside a planned range.
    """
    ends = dict(starts)
    waiting = sorted((highs.get(slot, 0) - start, slot) for slot, start in starts.items())
    waiting = [(lag, slot) for lag, slot in waiting if lag > 0]
    budget = limit
    for index, (lag, slot) in enumerate(waiting):
        share = max(1, budget // (len(waiting) - index))
        start = starts[slot]
        end = start + min(lag, share)
        if end < highs[slot]:
            even = end // size * size
            end = even if even > start else end
        for known in planned:
            if known.slot == slot and known.first < end <= known.last:
                end = known.last + 1
        ends[slot] = end
        budget -= end - start
    return ends
