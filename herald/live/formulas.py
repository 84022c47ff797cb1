"""Metrics of the registry over rollup counts: the formula is the registry's, the source differs.

The marts count messages, a window counts events: a message that was tried twice was attempted
twice. Counts that events cannot tell (influenced opens, primary conversions, reads) are not here,
nor are the metrics that need one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from herald.metrics.counts import COUNTS
from herald.metrics.model import AUDIENCES, Audience, Metric
from herald.metrics.registry import METRICS

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "targeted": "targeted",
        "attempted": "attempted",
        "sends": "sent",
        "deliveries": "delivered",
        "bounces": "bounced",
        "soft_bounces": "soft_bounced",
        "failures": "failed",
        "aborts": "aborted",
        "opens": "opened",
        "clicks": "clicked",
        "unique_opens": "unique_opens",
        "unique_clicks": "unique_clicks",
        "unsubscribes": "unsubscribed",
        "complaints": "complained",
        "total_conversions": "converted",
        "revenue": "revenue",
        "cost": "cost",
        "unique_impressions": "impressed",
        "unique_recipients": "unique_recipients",
    }
)
"""Count of the registry, and the rollup column that holds it."""

APPROXIMATE = frozenset({"unique_impressions"})
"""Counted as events although the registry counts messages: seeing a message twice counts twice."""

Counts = Mapping[str, float]


def is_live(metric: Metric) -> bool:
    """Whether the rollups hold every count of a metric."""
    return all(count.name in SOURCES for count in metric.counts)


LIVE_METRICS: Mapping[str, Metric] = MappingProxyType(
    {name: metric for name, metric in METRICS.items() if is_live(metric)}
)
"""Metrics that a window can show."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Counts of one channel, under the registry's column names."""

    channel: str
    counts: Counts


def slice_of(channel: str, every: Counts, chosen: Counts, audience: Audience) -> Slice:
    """Rollup counts under the registry's names.

    Args:
        channel: of the rows.
        every: sums over all rows, by rollup column.
        chosen: sums over the rows of the audience. Counts that tell people and machines apart are
            taken from here, as the marts' columns for people and machines are; others from `every`.
        audience: whose.
    """
    return Slice(
        channel,
        {
            column: (chosen if is_apart else every).get(source, 0)
            for column, source, is_apart in _NAMES[audience]
        },
    )


def evaluate(metric: Metric, parts: Sequence[Slice], audience: Audience) -> float | None:
    """A metric over the channels together; None where its denominator is 0."""
    above = sum(metric.numerator.value(p.counts, p.channel, audience) for p in parts)
    if metric.denominator is None:
        return above
    below = sum(metric.denominator.value(p.counts, p.channel, audience) for p in parts)
    return above / below if below else None


def _names(audience: Audience) -> tuple[tuple[str, str, bool], ...]:
    return tuple(
        (COUNTS[name].column(audience), source, bool(COUNTS[name].human))
        for name, source in SOURCES.items()
    )


_NAMES: Mapping[Audience, tuple[tuple[str, str, bool], ...]] = MappingProxyType(
    {audience: _names(audience) for audience in AUDIENCES}
)
