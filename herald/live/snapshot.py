"""The message of the live page: its shape, and how it is made of a window's counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from herald.live.filters import LiveFilters
from herald.live.formulas import LIVE_METRICS, Slice, evaluate, slice_of
from herald.live.queries import Unique, Uniques
from herald.live.window import COLUMNS, POSITION, SLOTS, Floats, Key, Window
from herald.metrics.model import Audience, Metric

SCHEMA = 1
TOP_CAMPAIGNS = 50

KPIS = (
    *("sends", "deliveries", "delivery_rate", "unique_recipients", "opens", "unique_open_rate"),
    *("clicks", "unique_click_rate", "total_conversions", "revenue", "bounce_rate", "spam_rate"),
    *("unsubscribes", "aborts"),
)
"""Metrics of the registry that head the page, in this order."""

FUNNEL = ("targeted", "attempted", "sent", "delivered", "opened", "clicked", "converted")
RATES = {
    "delivery_rate": "delivery_rate",
    "bounce_rate": "bounce_rate",
    "open_rate": "unique_open_rate",
    "click_rate": "unique_click_rate",
}
"""Ratio of a campaign's row, and the registry's metric that it is."""


class Kpi(BaseModel):
    """A metric over the window. previous: the same minutes a week before; None: no data then.

    spark: the metric of each of 60 slots; None where it has no value, or distinct counts have none.
    """

    name: str
    label: str
    unit: str
    value: float | None
    previous: float | None
    spark: list[float | None]
    lower_is_better: bool


class Stage(BaseModel):
    """Events of one step of a message's life."""

    stage: str
    value: int


class Rates(BaseModel):
    """Events a second by slot."""

    buckets: list[datetime]
    by_channel: dict[str, list[float]]
    by_provider: dict[str, list[float]]


class Country(BaseModel):
    """Events of a country; '' is unknown."""

    country: str
    sent: int
    delivered: int
    opened: int
    clicked: int


class Device(BaseModel):
    """Events of a platform; '' is unknown."""

    platform: str
    sent: int
    opened: int
    clicked: int


class Performance(BaseModel):
    """Events and ratios of a campaign or a variant."""

    campaign_id: str | None = None
    campaign_name: str | None = None
    variant_id: str | None = None
    sent: int
    delivered: int
    opened: int
    clicked: int
    converted: int
    bounced: int
    aborted: int
    delivery_rate: float | None
    open_rate: float | None
    click_rate: float | None
    bounce_rate: float | None


class Tenant(BaseModel):
    """What a tenant sent; only while every tenant is shown together."""

    tenant: str
    sent: int
    events: int


class Snapshot(BaseModel):
    """One view at one moment.

    sequence grows with every message of a view, over reconnects and restarts too. as_of: when the
    newest event landed; stale_seconds: how long ago that was. problem: why the figures stand still,
    while the warehouse does not answer.
    """

    type: Literal["snapshot"] = "snapshot"
    # "schema" would shadow a method of BaseModel
    schema_: int = SCHEMA
    sequence: int
    as_of: datetime | None
    sent_at: datetime
    tenant: str
    filters: dict[str, str]
    window_minutes: int
    stale_seconds: float | None
    problem: str | None
    kpis: list[Kpi]
    funnel: list[Stage]
    rates: Rates
    countries: list[Country]
    hours: list[tuple[int, int, int]]
    devices: list[Device]
    campaigns: list[Performance]
    variants: list[Performance]
    tenants: list[Tenant]
    alerts: list[dict[str, Any]]

    def message(self) -> dict[str, Any]:
        """As it is sent."""
        values = self.model_dump()
        return {"type": values.pop("type"), "schema": values.pop("schema_"), **values}


class Sums:
    """Counts of one key, all rows and those of the chosen audience."""

    __slots__ = ("chosen", "every")

    def __init__(self) -> None:
        self.every: Floats = np.zeros(len(COLUMNS))
        self.chosen: Floats = np.zeros(len(COLUMNS))

    def shown(self, name: str) -> int:
        """A count as the page shows it: opens and clicks are the audience's."""
        source = self.chosen if name in {"opened", "clicked"} else self.every
        return int(source[POSITION[name]])


def summed(totals: Mapping[Key, Floats], audience: Audience) -> dict[Key, Sums]:
    """Totals by key without the audience, which is a key's last part."""
    sums: dict[Key, Sums] = defaultdict(Sums)
    for (*key, of), values in totals.items():
        entry = sums[tuple(key)]
        entry.every += values
        if audience in {"all", of}:
            entry.chosen += values
    return sums


def slices(by_channel: Mapping[Key, Sums], audience: Audience) -> list[Slice]:
    """Counts under the registry's names, by channel, which is a key's last part."""
    return [
        slice_of(
            key[-1],
            dict(zip(COLUMNS, sums.every.tolist(), strict=True)),
            dict(zip(COLUMNS, sums.chosen.tolist(), strict=True)),
            audience,
        )
        for key, sums in by_channel.items()
    ]


def unique_slices(rows: Sequence[Unique], audience: Audience) -> list[Slice]:
    """Distinct counts, and the counts of the same minutes, under the registry's names."""
    return [
        slice_of(
            row.channel,
            row.every,
            row.every if audience == "all" else row.by_audience.get(audience, {}),
            audience,
        )
        for row in rows
    ]


def needs_uniques(metric: Metric) -> bool:
    """Whether a metric reads a distinct count, which slots do not have."""
    return any(
        c.name in {"unique_opens", "unique_clicks", "unique_recipients"} for c in metric.counts
    )


def metric_value(
    metric: Metric, counted: Sequence[Slice], uniques: Uniques | None, audience: Audience
) -> float | None:
    """A metric over a window, from slots or from distinct counts; None before those are known."""
    if not needs_uniques(metric):
        return evaluate(metric, counted, audience)
    if uniques is None:
        return None
    if metric.name == "unique_recipients":
        return uniques.recipients
    return evaluate(metric, unique_slices(uniques.rows, audience), audience)


def kpis(
    window: Window,
    audience: Audience,
    uniques: Uniques | None,
    before: tuple[Sequence[Slice], Uniques] | None,
) -> list[Kpi]:
    """The head of the page."""
    table = window.table("channel")
    counted = slices(summed(table.totals(), audience), audience)
    order = window.order()
    by_key = {key: table.series(key, order) for key in table.keys}
    by_slot = [
        slices(summed({key: series[i] for key, series in by_key.items()}, audience), audience)
        for i in range(SLOTS)
    ]
    found = []
    for name in KPIS:
        metric = LIVE_METRICS[name]
        spark: list[float | None] = [None] * SLOTS
        if not needs_uniques(metric):
            spark = [evaluate(metric, parts, audience) for parts in by_slot]
        found.append(
            Kpi(
                name=name,
                label=metric.label,
                unit=metric.unit,
                value=metric_value(metric, counted, uniques, audience),
                previous=metric_value(metric, *before, audience) if before else None,
                spark=spark,
                lower_is_better=metric.lower_is_better,
            )
        )
    return found


def funnel(window: Window, audience: Audience) -> list[Stage]:
    """Events by stage."""
    sums = list(summed(window.table("channel").totals(), audience).values())
    return [Stage(stage=name, value=sum(s.shown(name) for s in sums)) for name in FUNNEL]


def rates(window: Window) -> Rates:
    """Events a second, people and machines together."""
    return Rates(
        buckets=[datetime.fromtimestamp(start, UTC) for start in window.starts()],
        by_channel=_rate(window, "channel"),
        by_provider=_rate(window, "provider"),
    )


def _rate(window: Window, kind: str) -> dict[str, list[float]]:
    table, order = window.table(kind), window.order()
    sums: dict[str, Floats] = {}
    for key in table.keys:
        events = table.series(key, order)[:, POSITION["events"]]
        sums[key[0]] = sums[key[0]] + events if key[0] in sums else events
    return {
        name: np.round(events / window.seconds, 2).tolist()
        for name, events in sorted(sums.items())
        if events.any()
    }


def countries(window: Window, audience: Audience) -> list[Country]:
    """Countries, busiest first."""
    found = summed(window.table("country").totals(), audience)
    rows = [
        Country(
            country=key[0],
            sent=s.shown("sent"),
            delivered=s.shown("delivered"),
            opened=s.shown("opened"),
            clicked=s.shown("clicked"),
        )
        for key, s in found.items()
    ]
    return sorted(rows, key=lambda row: (-row.sent, row.country))


def devices(window: Window, audience: Audience) -> list[Device]:
    """Platforms, busiest first."""
    found = summed(window.table("platform").totals(), audience)
    rows = [
        Device(
            platform=key[0],
            sent=s.shown("sent"),
            opened=s.shown("opened"),
            clicked=s.shown("clicked"),
        )
        for key, s in found.items()
    ]
    return sorted(rows, key=lambda row: (-row.sent, row.platform))


def tenants(window: Window) -> list[Tenant]:
    """Tenants, busiest first."""
    found = summed(window.table("tenant").totals(), "all")
    rows = [
        Tenant(tenant=key[0], sent=s.shown("sent"), events=s.shown("events"))
        for key, s in found.items()
    ]
    return sorted(rows, key=lambda row: (-row.events, row.tenant))


def performance(
    window: Window,
    kind: Literal["campaign", "variant"],
    filters: LiveFilters,
    uniques: Uniques | None,
    names: Mapping[str, str],
) -> list[Performance]:
    """Campaigns or variants by what they sent, the 50 that sent most."""
    audience = filters.audience
    by_name: dict[str, dict[Key, Sums]] = defaultdict(dict)
    for key, sums in summed(window.table(kind).totals(), audience).items():
        by_name[key[0]][key] = sums
    # events that belong to no campaign (an app session) are no row of the table
    by_name.pop("", None) if kind == "campaign" else None
    counts = {
        name: {column: sum(s.shown(column) for s in sums.values()) for column in _SHOWN}
        for name, sums in by_name.items()
    }
    busy = sorted(counts, key=lambda n: (-counts[n]["sent"], -sum(counts[n].values()), n))
    unique_rows: dict[str, list[Unique]] = defaultdict(list)
    for row in uniques.rows if uniques and (kind == "variant" or not filters.campaign) else ():
        unique_rows[row.key].append(row)
    if uniques and kind == "campaign" and filters.campaign:
        unique_rows[filters.campaign] = uniques.rows
    found = []
    for name in busy[:TOP_CAMPAIGNS]:
        if not any(counts[name].values()):
            continue
        own = Uniques(unique_rows.get(name, []), 0.0) if uniques else None
        parts = slices(by_name[name], audience)
        ratios = {
            label: metric_value(LIVE_METRICS[metric], parts, own, audience)
            for label, metric in RATES.items()
        }
        labels = (
            {"campaign_id": name, "campaign_name": names.get(name) or None}
            if kind == "campaign"
            else {"variant_id": name}
        )
        found.append(Performance(**labels, **counts[name], **ratios))
    return found


_SHOWN = ("sent", "delivered", "opened", "clicked", "converted", "bounced", "aborted")
