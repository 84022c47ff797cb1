"""One number everywhere: a metric read on every surface, and recounted from the raw events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from clickhouse_connect.driver.client import Client

from herald.engine.errors import InvalidQueryError
from herald.engine.query import unknown_metric
from herald.engine.recount import recount
from herald.metrics.registry import DIMENSIONS, Exposed, resolve
from herald.settings import Settings
from herald.warehouse.client import connect

Number = float | int | None
Values = str | Sequence[str]
SupersetReader = Callable[[Settings, str, Mapping[str, Values]], Number]
"""Reads a generated metric through Superset: settings, exposed name, column to its values."""

PERFORMANCE = "marts.fct_campaign_performance"
MESSAGES = "marts.fct_messages"


@dataclass(frozen=True, slots=True)
class Case:
    """One metric to compare.

    Attributes:
        metric: exposed name, such as `unique_open_rate__human`.
        filters: column of the marts to a value or several; the tenant with the most messages is
            added when `tenant_id` is not given.
    """

    metric: str
    filters: Mapping[str, Values] = field(default_factory=dict)


def default_cases() -> list[Case]:
    """One case for each kind of definition: counts, ratios, audiences, channels, money, users."""
    everywhere = (
        "sends",
        "delivery_rate",
        "unique_open_rate",
        "unique_open_rate__human",
        "unique_click_rate",
        "click_to_open_rate__human",
        "conversion_rate",
        "unsubscribe_rate",
        "spam_rate",
        "abort_rate",
        "revenue",
        "revenue_per_recipient",
        "roi",
        "unique_recipients",
        "total_open_rate",
    )
    return [
        *(Case(name) for name in everywhere),
        Case("delivery_rate", {"channel": "email"}),
        Case("bounce_rate", {"channel": "email"}),
        Case("unique_opens__machine", {"channel": "email"}),
        Case("delivery_rate", {"channel": ["push", "sms"]}),
        Case("conversion_rate", {"channel": "in_app"}),
    ]


def one_number(
    settings: Settings, cases: Sequence[Case], *, superset: SupersetReader | None = None
) -> list[dict[str, Any]]:
    """Read each case on every surface, over all time, under the date scope `sent`.

    Args:
        settings: where warehouse and API are.
        cases: what to compare.
        superset: reads a metric through Superset; left out when None.

    Returns:
        One record a case: metric, filters, raw, dbt, api and, if asked, superset. Numbers that
        agree are equal, not close.

    Raises:
        InvalidQueryError: a case names a metric that does not exist.
        ValueError: the marts are empty, so that nothing could be compared.
    """
    writer = connect(settings.warehouse)
    headers = {"Authorization": f"Bearer {settings.api.password.get_secret_value()}"}
    with httpx.Client(base_url=settings.api.url, headers=headers, timeout=60) as api:
        try:
            busiest = _busiest_tenant(writer)
            asked = [_Asked.of(case, busiest) for case in cases]
            raw = _from_raw(writer, asked)
            spans = {one.tenant: _span(writer, one.tenant) for one in asked}
            records = []
            for one, counted in zip(asked, raw, strict=True):
                record: dict[str, Any] = {
                    "metric": one.metric.name,
                    "filters": one.filters,
                    "raw": counted,
                    "dbt": from_marts(writer, one.metric, one.listed),
                    "api": from_api(api, one.metric.name, one.listed, spans[one.tenant]),
                }
                if superset is not None:
                    record["superset"] = superset(settings, one.metric.name, one.filters)
                records.append(record)
            return records
        finally:
            writer.close()


def from_marts(client: Client, metric: Exposed, filters: Mapping[str, Sequence[str]]) -> Number:
    """The metric over the counts of fct_campaign_performance.

    Distinct users do not add up over its rows: metrics that need them come from fct_messages.
    """
    whole = any(count.unique for count in metric.metric.counts)
    # country, platform and device class are not in the campaign mart either
    finer = {"country", "platform", "device_class"} & set(filters)
    by_message = bool(whole or finer)
    conditions = [f"has({{f{i}:Array(String)}}, {column})" for i, column in enumerate(filters)]
    parameters = {f"f{i}": list(values) for i, values in enumerate(filters.values())}
    expression = metric.sql("message" if by_message else "hourly")
    value: Number = client.query(
        f"select {expression} from {MESSAGES if by_message else PERFORMANCE} "
        f"where {' and '.join(conditions)}",
        parameters,
    ).result_rows[0][0]
    return value


def from_api(
    api: httpx.Client, metric: str, filters: Mapping[str, Sequence[str]], span: tuple[str, str]
) -> Number:
    """The metric over HTTP.

    Raises:
        httpx.HTTPStatusError: the API answered with a problem document.
    """
    names = {d.column: d.name for d in DIMENSIONS.values()}
    body = {
        "tenant_id": filters["tenant_id"][0],
        "metrics": [metric],
        "filters": [
            {"dimension": names[column], "values": list(values)}
            for column, values in filters.items()
            if column != "tenant_id"
        ],
        "start": span[0],
        "end": span[1],
    }
    answer = api.post("/v1/query", json=body)
    answer.raise_for_status()
    value: Number = answer.json()["rows"][0][metric]
    return value


@dataclass(frozen=True, slots=True)
class _Asked:
    """A case with its metric found and its filters complete."""

    metric: Exposed
    filters: Mapping[str, Values]
    listed: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, case: Case, busiest: str) -> _Asked:
        metric = resolve(case.metric)
        if metric is None:
            raise InvalidQueryError.of([unknown_metric("metric", case.metric)])
        filters: dict[str, Values] = {"tenant_id": busiest, **case.filters}
        listed = {c: [v] if isinstance(v, str) else list(v) for c, v in filters.items()}
        return cls(metric, filters, listed)

    @property
    def tenant(self) -> str:
        return self.listed["tenant_id"][0]


def _from_raw(client: Client, asked: Sequence[_Asked]) -> list[Number]:
    found: dict[int, Number] = {}
    for tenant in {one.tenant for one in asked}:
        numbers = [n for n, one in enumerate(asked) if one.tenant == tenant]
        questions = [
            (asked[n].metric, {c: v for c, v in asked[n].listed.items() if c != "tenant_id"})
            for n in numbers
        ]
        found |= zip(numbers, recount(client, tenant, questions), strict=True)
    return [found[n] for n in range(len(asked))]


def _busiest_tenant(client: Client) -> str:
    rows = client.query(
        f"select tenant_id from {MESSAGES} group by tenant_id order by count() desc limit 1"
    ).result_rows
    if not rows:
        raise ValueError(f"{MESSAGES} is empty: land events and build the marts first")
    return str(rows[0][0])


def _span(client: Client, tenant: str) -> tuple[str, str]:
    first, last = client.query(
        f"select min(anchor_at), max(anchor_at) from {MESSAGES} "
        "where tenant_id = {tenant:String}",
        {"tenant": tenant},
    ).result_rows[0]
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    end = last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return f"{midnight:%Y-%m-%dT%H:%M:%SZ}", f"{end:%Y-%m-%dT%H:%M:%SZ}"
