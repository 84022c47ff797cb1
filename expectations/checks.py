"""Constructors of the checks that several suites need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from expectations.model import Check, Severity


def native(
    gx_class: str, expected: str, *, severity: Severity = "error", column: str = "", **kwargs: Any
) -> Check:
    """An expectation class of Great Expectations, by name, with its arguments."""
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in gx_class).lstrip("_")
    arguments = {"column": column, **kwargs} if column else kwargs
    return Check(name, "native", expected, severity, column, gx_class, arguments)


def rows(
    name: str, sql: str, expected: str, *, column: str = "", severity: Severity = "error"
) -> Check:
    """SQL whose every row is a violation."""
    return Check(name, "rows", expected, severity, column, sql=sql)


def measured(
    name: str, sql: str, expected: str, *, column: str = "", severity: Severity = "error"
) -> Check:
    """SQL of one row: observed, expected, is_ok, note."""
    return Check(name, "measured", expected, severity, column, sql=sql)


def not_null(*columns: str) -> tuple[Check, ...]:
    """No null in any of the columns."""
    return tuple(
        native("ExpectColumnValuesToNotBeNull", "never null", column=column) for column in columns
    )


def not_empty(*columns: str) -> tuple[Check, ...]:
    """No empty string; the warehouse keeps '' where a value is absent."""
    return tuple(
        native("ExpectColumnValueLengthsToBeBetween", "never empty", column=column, min_value=1)
        for column in columns
    )


def in_set(column: str, values: Iterable[str], *, severity: Severity = "error") -> Check:
    """Every value is one of a closed list."""
    listed = sorted(values)
    return native(
        "ExpectColumnValuesToBeInSet",
        f"one of {len(listed)} known values",
        column=column,
        severity=severity,
        value_set=listed,
    )


def has_rows(*, severity: Severity = "error") -> Check:
    """The batch is not empty: checks over nothing prove nothing."""
    return native(
        "ExpectTableRowCountToBeBetween", "at least 1 row", min_value=1, severity=severity
    )


def grain_is_unique(*columns: str) -> Check:
    """One row for each combination of the columns."""
    listed = ", ".join(columns)
    return rows(
        "grain_is_unique",
        f"select {listed}, count() as rows_of_grain from {{batch}}"
        f" group by {listed} having rows_of_grain > 1",
        f"one row for each {' x '.join(columns)}",
        column=", ".join(columns),
    )


def between_zero_and_one(column: str) -> Check:
    """A ratio; null where its denominator is zero.

    One row in a hundred may lie outside: where the event behind the denominator was refused
    (dead-lettered) on its own, a small group can count more aborts than messages targeted.
    """
    return native(
        "ExpectColumnValuesToBeBetween",
        "0 to 1 in 99 of 100 rows",
        column=column,
        min_value=0,
        max_value=1,
        mostly=0.99,
    )


def never_more(smaller: str, larger: str, *, tolerated_share: float = 0.0) -> Check:
    """`smaller` <= `larger` in every row, but for a tolerated share of the rows.

    Both are counts of messages. A share is tolerated where the event behind the larger count can
    be refused (dead-lettered) on its own while the later one lands.
    """
    return measured(
        f"{smaller}_never_more_than_{larger}",
        f"""
        select concat(toString(countIf({smaller} > {larger})), ' of ', toString(count()), ' rows')
                   as observed,
               'at most {100 * tolerated_share:g} pct of the rows' as expected,
               countIf({smaller} > {larger}) <= {tolerated_share} * count() as is_ok,
               '' as note
        from {{batch}}
        """,
        f"{smaller} <= {larger}",
        column=smaller,
    )


def fresh(column: str, hours: int, *, severity: Severity) -> Check:
    """The newest value of a time column is at most so many hours old."""
    return measured(
        "is_fresh",
        f"""
        select if(count() = 0, 'no rows', concat('newest ', toString(max({column})), ' UTC'))
                   as observed,
               'at most {hours} h old' as expected,
               count() > 0 and max({column}) >= now() - toIntervalHour({hours}) as is_ok,
               '' as note
        from {{batch}}
        """,
        f"newest {column} at most {hours} h old",
        column=column,
        severity=severity,
    )


def same_total(
    name: str, left_sql: str, right_sql: str, measures: Sequence[str], expected: str
) -> Check:
    """Two SELECTs with the same measure columns, one row each, agree in every measure."""
    differs = " or ".join(f"l.{m} != r.{m}" for m in measures)
    shown = ", ".join(f"l.{m} as {m}, r.{m} as other_{m}" for m in measures)
    return rows(
        name,
        f"select {shown} from ({left_sql}) as l cross join ({right_sql}) as r where {differs}",
        expected,
        column=", ".join(measures),
    )
