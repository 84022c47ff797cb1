"""The registry as records, for the API, the command line and generated assets."""

from __future__ import annotations

from pydantic import BaseModel

from herald.metrics.registry import (
    AUDIENCES,
    DIMENSIONS,
    METRICS,
    Metric,
    definition_version,
    resolve,
)


class MetricEntry(BaseModel):
    """One metric of the catalogue."""

    name: str
    label: str
    description: str
    formula: str
    unit: str
    numerator: list[str]
    denominators: list[str]
    window: str
    additive: bool
    audiences: list[str]
    date_scopes: list[str]
    owner: str
    elsewhere: dict[str, str]
    lower_is_better: bool
    definition_version: str


class DimensionEntry(BaseModel):
    """One dimension of the catalogue."""

    name: str
    column: str
    label: str
    description: str


def entry(name: str) -> MetricEntry | None:
    """The entry of a metric, by its name or a name with an audience; None for an unknown one."""
    found = resolve(name)
    return _entry(found.metric) if found else None


def entries() -> list[MetricEntry]:
    """Every metric."""
    return [_entry(metric) for metric in METRICS.values()]


def dimensions() -> list[DimensionEntry]:
    """Every dimension."""
    return [
        DimensionEntry(name=d.name, column=d.column, label=d.label, description=d.description)
        for d in DIMENSIONS.values()
    ]


def _entry(metric: Metric) -> MetricEntry:
    below = metric.denominator.counts if metric.denominator else ()
    return MetricEntry(
        name=metric.name,
        label=metric.label,
        description=metric.description,
        formula=metric.formula,
        unit=metric.unit,
        numerator=[count.name for count in metric.numerator.counts],
        denominators=[count.name for count in below],
        window=metric.window,
        additive=metric.additive,
        audiences=list(AUDIENCES if metric.audience_aware else AUDIENCES[:1]),
        date_scopes=list(metric.scopes),
        owner=metric.owner,
        elsewhere=dict(metric.aliases),
        lower_is_better=metric.lower_is_better,
        definition_version=definition_version(metric),
    )
