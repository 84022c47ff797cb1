"""One view of the live page: its window, kept current by small reads, and its snapshots.

`refresh` and `snapshot` are for one thread at a time. `refresh_rest` may run beside them: it reads
what moves slowly and can be dear, and puts each answer in place at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from herald.live import snapshot as page
from herald.live.filters import LiveFilters
from herald.live.formulas import Slice
from herald.live.queries import (
    WEEK,
    Ask,
    Uniques,
    has_history,
    read_alerts,
    read_as_of,
    read_hours,
    read_names,
    read_slots,
    read_totals,
    read_uniques,
)
from herald.live.window import SLOTS, Window

RECENT_SECONDS = 10
"""Slots this new are read at every tick: events of a second land within the next few."""

BUDGET_SECONDS = 0.015
"""What reading slots may take at a tick; more than one older slot is read only within it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often what moves slowly is read again, in seconds.

    uniques: merging distinct counts is the dearest read, so it also waits 50 times what it took.
    """

    uniques: float = 5.0
    hours: float = 60.0
    names: float = 30.0
    alerts: float = 2.0
    before: float = 60.0


DEAREST = 50


class _Kept:
    """A value that is read again when its time has come."""

    def __init__(self, seconds: float, factor: float = 0.0) -> None:
        self._seconds = seconds
        self._factor = factor
        self._due = float("-inf")

    def read(self, now: float, known: T, read: Callable[[], T]) -> T:
        """The known value, or a new one when it is due."""
        if now < self._due:
            return known
        begun = time.perf_counter()
        value = read()
        took = time.perf_counter() - begun
        self._due = now + max(self._seconds, self._factor * took)
        return value


class LiveView:
    """What one set of filters shows.

    Args:
        filters: which view.
        ask: runs a SELECT as the reader.
        pace: how often what moves slowly is read.
    """

    def __init__(self, filters: LiveFilters, ask: Ask, pace: Pace | None = None) -> None:
        pace = pace or Pace()
        self.filters = filters
        self._ask = ask
        self._window = Window(filters.window)
        self._started = False
        self._older = 1
        self._unread = SLOTS
        self._landed_ms = 0
        self._as_of: datetime | None = None
        self._uniques: Uniques | None = None
        self._before: tuple[Sequence[Slice], Uniques] | None = None
        self._hours: list[tuple[int, int, int]] = []
        self._names: dict[str, str] = {}
        self._alerts: list[dict[str, Any]] = []
        self._sequence = 0
        self._kept = {
            "uniques": _Kept(pace.uniques, DEAREST),
            "before": _Kept(pace.before, DEAREST),
            "hours": _Kept(pace.hours, DEAREST),
            "names": _Kept(pace.names),
            "alerts": _Kept(pace.alerts),
            "as_of": _Kept(pace.alerts),
        }

    def refresh(self, now: float, *, landed: bool = True) -> None:
        """Read the slots that may have changed.

        Args:
            now: Unix seconds.
            landed: whether anything landed since the last time. If not, only slots that were not
                read since then are: a late event may lie in any of them.

        Raises:
            EngineError: the warehouse does not answer; the view keeps what it knows.
        """
        self._window.advance(now)
        if landed:
            self._unread = SLOTS
        if self._unread > 0 or not self._started:
            self._read_slots(now)

    @property
    def is_settled(self) -> bool:
        """Whether every slot was read since something landed."""
        return self._started and self._unread <= 0

    def refresh_rest(self, now: float) -> None:
        """Read what is due of the rest: distinct counts, last week, hours, names, alerts.

        Raises:
            EngineError: as `refresh`.
        """
        second = int(now)
        minute = second // 60 * 60
        width = self.filters.window * 60
        kept, ask, filters = self._kept, self._ask, self.filters
        self._names = kept["names"].read(
            now, self._names, lambda: {c: n for (_, c), n in read_names(ask, filters).items()}
        )
        self._alerts = kept["alerts"].read(now, self._alerts, lambda: read_alerts(ask, filters))
        self._as_of = kept["as_of"].read(now, self._as_of, lambda: read_as_of(ask, second))
        self._uniques = kept["uniques"].read(
            now,
            self._uniques,
            lambda: read_uniques(ask, filters, minute + 60 - width, minute + 60),
        )
        self._hours = kept["hours"].read(now, self._hours, lambda: read_hours(ask, filters, second))
        self._before = kept["before"].read(
            now, self._before, lambda: self._read_before(minute - width - WEEK, minute - WEEK)
        )

    def _read_slots(self, now: float) -> None:
        window = self._window
        end = window.last + 1
        if not self._started:
            recent, spans = end, [(window.first, end)]
        else:
            recent = max(window.first, int((now - RECENT_SECONDS) // window.seconds))
            spans = [(recent, end), *window.rotating(self._older, recent)]
        slots = [slot for first, last in spans for slot in range(first, last)]
        begun = time.perf_counter()
        rows, landed_ms = read_slots(self._ask, self.filters, window.seconds, spans)
        # late events lie anywhere: as many older slots at a tick as there is time for
        each = (time.perf_counter() - begun) / len(slots)
        self._older = max(1, min(SLOTS, int(BUDGET_SECONDS / each)))
        # what is recent is read every time, so it says nothing about the others
        self._unread -= sum(1 for slot in slots if slot < recent)
        window.replace(slots, rows)
        self._landed_ms = max(self._landed_ms, landed_ms)
        self._started = True

    def _read_before(self, first: int, last: int) -> tuple[Sequence[Slice], Uniques] | None:
        if not has_history(self._ask, self.filters, last):
            return None
        rows = read_totals(self._ask, self.filters, first, last)
        past = Window(60)
        past.advance(SLOTS * 60 - 1)
        past.replace([0], rows)
        audience = self.filters.audience
        sums = page.summed(past.table("channel").totals(), audience)
        return page.slices(sums, audience), read_uniques(self._ask, self.filters, first, last)

    def snapshot(self, now: float, problem: str | None = None) -> page.Snapshot:
        """The view as it is known now."""
        filters, window = self.filters, self._window
        window.advance(now)
        audience = filters.audience
        as_of = self._landed()
        # of the clock, so that it goes on growing over reconnects, workers and restarts
        self._sequence = max(self._sequence + 1, int(now * 1_000))
        return page.Snapshot(
            sequence=self._sequence,
            as_of=as_of,
            sent_at=datetime.fromtimestamp(now, UTC),
            tenant=filters.tenant,
            filters={k: v for k, v in filters.chosen().items() if k != "tenant"}
            | {"audience": audience},
            window_minutes=filters.window,
            stale_seconds=round(max(0.0, now - as_of.timestamp()), 3) if as_of else None,
            problem=problem,
            kpis=page.kpis(window, audience, self._uniques, self._before),
            funnel=page.funnel(window, audience),
            rates=page.rates(window),
            countries=page.countries(window, audience),
            hours=self._hours,
            devices=page.devices(window, audience),
            campaigns=page.performance(window, "campaign", filters, self._uniques, self._names),
            variants=(
                page.performance(window, "variant", filters, self._uniques, self._names)
                if filters.campaign
                else []
            ),
            tenants=page.tenants(window) if not filters.tenant else [],
            alerts=self._alerts,
        )

    def payload(self, now: float, problem: str | None = None) -> bytes:
        """The snapshot as JSON, times as ISO 8601 in UTC."""
        return orjson.dumps(
            self.snapshot(now, problem).message(), option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
        )

    def _landed(self) -> datetime | None:
        newest = datetime.fromtimestamp(self._landed_ms / 1_000, UTC) if self._landed_ms else None
        return max((t for t in (newest, self._as_of) if t), default=None)
