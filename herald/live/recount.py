"""Rollups against raw.events: every bucket counted again by the same rule, other means.

The views count blocks as they are inserted; here one statement counts the stored rows. What they
share is the list of columns in herald/live/rollups.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client

from herald.live.rollups import (
    COUNTS,
    DIMENSIONS,
    GRAINS,
    MONEY,
    UNIQUE_PRECISION,
    UNIQUES,
    Grain,
    GrainName,
)

BOUNDARY_SECONDS = 900
"""Width of the doubt at a grain's cut, see `Difference.is_boundary`."""

MARGIN_SECONDS = 3_600
"""Buckets this close to the end of their time to live may be gone already."""

SHOWN = 20
"""Differences listed in a report; all are counted."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2106, 1, 1, tzinfo=UTC)
_COUNTED = (*COUNTS, "events")


@dataclass(frozen=True, slots=True)
class Difference:
    """A bucket where rollup and raw events disagree.

    Attributes:
        bucket_at: start of the bucket.
        key: the dimensions.
        delta: rollup minus raw of each column that differs.
        is_boundary: the bucket has events that landed about as late as the grain still takes. A
            retry by another process stamps them anew, so that a view may judge them otherwise than
            the row that the first try stored. No error; it cannot happen in the hour table.
    """

    bucket_at: datetime
    key: dict[str, str]
    delta: dict[str, float]
    is_boundary: bool


@dataclass(frozen=True, slots=True)
class Recount:
    """One grain over one span. `ok`: no difference but at the boundary."""

    grain: GrainName
    start: datetime
    end: datetime
    events_rollup: int
    events_raw: int
    differences: int
    boundary: int
    seconds: float
    shown: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the rollup says what the events say."""
        return self.differences == 0

    def record(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {**asdict(self), "ok": self.ok}


def check_rollups(
    client: Client,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    tenant: str | None = None,
    grains: Iterable[GrainName] = tuple(GRAINS),
    settle_seconds: float = 5.0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Recount]:
    """Recount each grain.

    Args:
        client: of the writer; the reader may not see raw.events.
        start: first instant, UTC, rounded down to a bucket; None is the oldest that the table
            keeps.
        end: first instant after the span; None is the newest there is.
        tenant: only this one's; None is all.
        grains: which tables.
        settle_seconds: how long a difference may last. An insert becomes visible in one table
            after the other, so while events land only what stays is a difference.
        clock: now.
    """
    return [
        _settled(client, GRAINS[name], start or EPOCH, end, tenant, settle_seconds, clock)
        for name in grains
    ]


def _settled(
    client: Client,
    grain: Grain,
    start: datetime,
    end: datetime | None,
    tenant: str | None,
    settle_seconds: float,
    clock: Callable[[], datetime],
) -> Recount:
    begun = time.perf_counter()
    scope = _scope(grain, start, end, tenant, clock())
    deadline = time.monotonic() + settle_seconds
    found = _differences(client, grain, scope)
    while found and time.monotonic() < deadline:
        time.sleep(min(1.0, settle_seconds))
        again = {_identity(d) for d in found}
        found = [d for d in _differences(client, grain, scope) if _identity(d) in again]
    rollup, raw = _totals(client, grain, scope)
    real = [d for d in found if not d.is_boundary]
    return Recount(
        grain.name,
        scope.start,
        scope.end,
        rollup,
        raw,
        len(real),
        len(found) - len(real),
        round(time.perf_counter() - begun, 3),
        [*real, *(d for d in found if d.is_boundary)][:SHOWN],
    )


def _identity(difference: Difference) -> tuple[object, ...]:
    return (
        difference.bucket_at,
        *difference.key.values(),
        *(f"{name}={value}" for name, value in difference.delta.items()),
    )


@dataclass(frozen=True, slots=True)
class _Scope:
    """What both sides are read for."""

    start: datetime
    end: datetime
    tenant: str | None

    def condition(self, column: str) -> str:
        of_tenant = " AND tenant_id = {tenant:String}" if self.tenant is not None else ""
        return (
            f"{column} >= toDateTime({{first:Int64}}, 'UTC') AND "
            f"{column} < toDateTime({{last:Int64}}, 'UTC'){of_tenant}"
        )

    def parameters(self) -> dict[str, int | str]:
        bounds = {"first": int(self.start.timestamp()), "last": int(self.end.timestamp())}
        return {**bounds, **({} if self.tenant is None else {"tenant": self.tenant})}


def _scope(
    grain: Grain, start: datetime, end: datetime | None, tenant: str | None, now: datetime
) -> _Scope:
    """The part of the span that the table still has, in whole buckets."""
    last = end or LATEST
    if grain.kept_seconds is not None:
        kept = timedelta(seconds=grain.kept_seconds - MARGIN_SECONDS)
        start = max(start, now - kept)
    step = timedelta(seconds=grain.seconds)
    return _Scope(start - (start - EPOCH) % step, last + (EPOCH - last) % step, tenant)


def _differences(client: Client, grain: Grain, scope: _Scope) -> list[Difference]:
    """Keys whose signed sum over both sides is not 0 in some column."""
    columns = [*_COUNTED, *MONEY, *(UNIQUES if grain.has_uniques else ())]
    keys = ", ".join(("bucket_at", *DIMENSIONS))
    deltas = ", ".join(f"toFloat64(sum(side * {c}_)) AS {c}_delta" for c in columns)
    differs = " OR ".join(f"{c}_delta != 0" for c in columns)
    rows = client.query(
        f"SELECT {keys}, max(boundary) AS is_boundary, {deltas} "
        f"FROM ({_rollup_side(grain, keys, scope)} UNION ALL {_raw_side(grain, keys, scope)}) "
        f"GROUP BY {keys} HAVING {differs} ORDER BY {keys}",
        parameters=scope.parameters(),
    )
    return [
        Difference(
            _utc(row["bucket_at"]),
            {name: str(row[name]) for name in DIMENSIONS},
            {c: float(row[f"{c}_delta"]) for c in columns if row[f"{c}_delta"]},
            bool(row["is_boundary"]),
        )
        for row in rows.named_results()
    ]


def _rollup_side(grain: Grain, keys: str, scope: _Scope) -> str:
    sums = [f"toInt64(sum({c})) AS {c}_" for c in _COUNTED]
    sums += [f"sum({c}) AS {c}_" for c in MONEY]
    if grain.has_uniques:
        sums += [f"toInt64(uniqCombined64Merge({UNIQUE_PRECISION})({c})) AS {c}_" for c in UNIQUES]
    return (
        f"SELECT {keys}, 1 AS side, 0 AS boundary, {', '.join(sums)} FROM {grain.table} "
        f"WHERE {scope.condition('bucket_at')} GROUP BY {keys}"
    )


def _raw_side(grain: Grain, keys: str, scope: _Scope) -> str:
    sums = [f"toInt64(countIf(taken AND action = '{a}')) AS {c}_" for c, a in COUNTS.items()]
    sums += ["toInt64(countIf(taken)) AS events_"]
    sums += [f"sumIf(ifNull({c}, 0), taken) AS {c}_" for c in MONEY]
    if grain.has_uniques:
        for name, (column, actions) in UNIQUES.items():
            among = ", ".join(f"'{action}'" for action in actions)
            sums.append(
                f"toInt64(uniqCombined64If({UNIQUE_PRECISION})({column}, taken AND action IN "
                f"({among}))) AS {name}_"
            )
    return (
        f"SELECT {keys}, -1 AS side, max(at_cut) AS boundary, {', '.join(sums)} FROM ("
        f"SELECT *, {grain.start} AS bucket_at, {_taken(grain)} AS taken, {_at_cut(grain)} AS "
        "at_cut, if(machine_open OR is_suspected_bot, 'machine', 'human') AS audience "
        f"FROM raw.events WHERE {scope.condition('occurred_at')}) GROUP BY {keys}"
    )


def _taken(grain: Grain) -> str:
    if grain.late_seconds is None:
        return "true"
    return f"occurred_at >= landed_at - INTERVAL {grain.late_seconds} SECOND"


def _at_cut(grain: Grain) -> str:
    if grain.late_seconds is None:
        return "0"
    late = f"dateDiff('second', occurred_at, landed_at) - {grain.late_seconds}"
    return f"abs({late}) <= {BOUNDARY_SECONDS}"


def _totals(client: Client, grain: Grain, scope: _Scope) -> tuple[int, int]:
    rows = client.query(
        f"SELECT (SELECT sum(events) FROM {grain.table} WHERE {scope.condition('bucket_at')}), "
        f"(SELECT countIf({_taken(grain)}) FROM raw.events WHERE {scope.condition('occurred_at')})",
        parameters=scope.parameters(),
    ).result_rows
    return int(rows[0][0] or 0), int(rows[0][1] or 0)


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
