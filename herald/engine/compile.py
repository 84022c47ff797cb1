"""From a checked question to SQL. Every value of the asker travels as a bound parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from herald.engine.query import TIME, Query
from herald.metrics.model import Grain
from herald.metrics.registry import DIMENSIONS, SCOPE_TABLES

MESSAGES = "marts.fct_messages"


@dataclass(frozen=True, slots=True)
class Compiled:
    """SQL with its parameters.

    Attributes:
        sql: one SELECT, without LIMIT.
        parameters: values of its `{name:Type}` placeholders.
        columns: name of each result column, as the asker knows it.
        time_index: which column is the start of a bucket in Unix seconds; None for no grain.
        table: the mart it reads.
    """

    sql: str
    parameters: dict[str, Any]
    columns: list[str]
    time_index: int | None
    table: str

    def page(self, *, limit: int, offset: int) -> tuple[str, dict[str, Any]]:
        """The SELECT of one page and its parameters."""
        return (
            f"{self.sql}\nlimit {{row_limit:UInt64}} offset {{row_offset:UInt64}}",
            {**self.parameters, "row_limit": limit, "row_offset": offset},
        )


def compile_query(query: Query) -> Compiled:
    """Compile a question that `Query.check` accepted.

    Column aliases are d0.., t, m0..: an alias equal to a column (`sum(sends) as sends`) would take
    the column's place inside other expressions of the same SELECT.
    """
    # hourly rows cannot be split: ranges and zones off the hour read one row a message instead
    hourly = query.scope == "event" or query.on_whole_hours()
    table = SCOPE_TABLES[query.scope] if hourly else MESSAGES
    column = "hour_at" if hourly else "anchor_at"
    grain: Grain = "hourly" if hourly else "message"
    start, end = query.range()
    parameters: dict[str, Any] = {
        "tenant": query.tenant_id,
        "zone": query.time_zone,
        "start": _text(start),
        "end": _text(end),
    }
    conditions = _filters(query, parameters)
    keys = [f"d{i}" for i in range(len(query.dimensions))]
    if query.grain != "none":
        keys.append("t")
    values = [f"m{i}" for i in range(len(query.metrics))]

    def select(moment: str, first: str, last: str) -> str:
        parts = [f"{DIMENSIONS[n].column} as d{i}" for i, n in enumerate(query.dimensions)]
        if query.grain != "none":
            parts.append(f"toUnixTimestamp({_bucket(query.grain, moment)}) as t")
        parts += [f"{m.sql(grain)} as m{i}" for i, m in enumerate(query.resolved())]
        where = [
            "tenant_id = {tenant:String}",
            f"{column} >= {{{first}:DateTime64(3, 'UTC')}}",
            f"{column} < {{{last}:DateTime64(3, 'UTC')}}",
            *conditions,
        ]
        text = f"select {', '.join(parts)}\nfrom {table}\nwhere {' and '.join(where)}"
        return text + (f"\ngroup by {', '.join(keys)}" if keys else "")

    sql = select(column, "start", "end")
    if query.compare == "previous":
        sql = _compared(query, sql, select, column, keys, values, parameters)
    names = query.columns()
    if keys:
        sql += "\norder by " + ", ".join(_order(query, names, [*keys, *_values(query, values)]))
    if query.grain == "none":
        # `zone` is not used, and an unused parameter would make equal questions differ
        del parameters["zone"]
    return Compiled(
        sql=sql,
        parameters=parameters,
        columns=names,
        time_index=names.index(TIME) if query.grain != "none" else None,
        table=table,
    )


def _values(query: Query, values: list[str]) -> list[str]:
    return values + ([f"p{v[1:]}" for v in values] if query.compare == "previous" else [])


def _filters(query: Query, parameters: dict[str, Any]) -> list[str]:
    conditions = []
    for index, item in enumerate(query.filters):
        parameters[f"f{index}"] = list(item.values)
        negated = "not " if item.op == "not_in" else ""
        column = DIMENSIONS[item.dimension].column
        conditions.append(f"{negated}has({{f{index}:Array(String)}}, {column})")
    return conditions


def _bucket(grain: str, moment: str) -> str:
    local = f"toTimeZone({moment}, {{zone:String}})"
    if grain == "hour":
        return f"toStartOfHour({local})"
    if grain == "day":
        return f"toStartOfDay({local})"
    return f"toDateTime(toMonday({local}), {{zone:String}})"


def _compared(
    query: Query,
    current: str,
    select: Callable[[str, str, str], str],
    column: str,
    keys: list[str],
    values: list[str],
    parameters: dict[str, Any],
) -> str:
    """Join the period before, its times moved forward so that its buckets meet the current ones."""
    start, end = query.range()
    zone = query.zone()
    first, last = start.astimezone(zone), end.astimezone(zone)
    days = (last.date() - first.date()).days
    if days and first.time() == last.time():
        # whole local days: a day with a change of the clock is still one day
        moved_start = (first.replace(tzinfo=None) - timedelta(days=days)).replace(tzinfo=zone)
        moment = f"addDays(toTimeZone({column}, {{zone:String}}), {{shift:Int64}})"
        parameters["shift"] = days
    else:
        moved_start = start - (end - start)
        moment = f"addSeconds({column}, {{shift:Int64}})"
        parameters["shift"] = int((end - start).total_seconds())
    parameters["previous_start"] = _text(moved_start.astimezone(UTC))
    previous = select(moment, "previous_start", "start")
    if query.grain == "none":
        del parameters["shift"]
    before_values = [f"if(b.seen = 1, b.{v}, null) as p{v[1:]}" for v in values]
    outer = [*(f"a.{k} as {k}" for k in keys), *(f"a.{v} as {v}" for v in values), *before_values]
    match = " and ".join(f"a.{k} = b.{k}" for k in keys) or "a.one = b.one"
    return (
        f"select {', '.join(outer)}\nfrom (select *, 1 as one from ({current})) as a\n"
        f"left join (select *, 1 as one, 1 as seen from ({previous})) as b on {match}"
    )


def _order(query: Query, names: list[str], aliases: list[str]) -> list[str]:
    alias = dict(zip(names, aliases, strict=True))
    asked = [
        f"{alias[key.removeprefix('-')]} {'desc' if key.startswith('-') else 'asc'} nulls last"
        for key in query.order
    ]
    # every key at the end: without a total order, pages of equal values could overlap
    used = {part.split()[0] for part in asked}
    keys = [a for n, a in alias.items() if n in query.dimensions or n == TIME]
    if not query.order and "t" in keys:
        keys = ["t", *(k for k in keys if k != "t")]
    return asked + [key for key in keys if key not in used]


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
