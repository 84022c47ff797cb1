"""What a suite is made of: plain data, so that any environment can read it without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Severity = Literal["error", "warning"]
Layer = Literal["raw", "staging", "marts"]

LAYERS: tuple[Layer, ...] = ("raw", "staging", "marts")
"""In the order in which data flows."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation.

    name: what it is called in results, reports and logs; unique with `column` in its suite.
    kind: `native` is an expectation class of Great Expectations; `rows` is SQL whose every row is
        a violation; `measured` is SQL of exactly one row (observed text, expected text, is_ok
        bool, note text), for what is a number against a limit.
    severity: an `error` stops what is downstream, a `warning` is stored and shown.
    gx_class: class in `great_expectations.expectations`, for `native`.
    arguments: its arguments.
    sql: for `rows` and `measured`; `{batch}` stands for the rows the suite looks at.
    expected: what should be, in words, for the log and the report.
    """

    name: str
    kind: Literal["native", "rows", "measured"]
    expected: str
    severity: Severity = "error"
    column: str = ""
    gx_class: str = ""
    arguments: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    sql: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """The checks of one table.

    table: `<database>.<table>`.
    checks: in the order of the report.
    where: SQL condition that narrows the rows looked at, '' for all of them. Large tables look at
        what landed lately: older rows have passed the same gate before.
    """

    table: str
    layer: Layer
    purpose: str
    checks: tuple[Check, ...]
    where: str = ""

    @property
    def name(self) -> str:
        """`<layer>__<table>`."""
        return f"{self.layer}__{self.table.partition('.')[2]}"

    @property
    def batch(self) -> str:
        """SELECT of the rows that the checks look at."""
        condition = f" where {self.where}" if self.where else ""
        return f"select * from {self.table}{condition}"

    def resolved_sql(self, check: Check) -> str:
        """SQL of a check whose every row is a violation."""
        sql = self.measurement_sql(check)
        return f"select * from ({sql}) where not is_ok" if check.kind == "measured" else sql

    def measurement_sql(self, check: Check) -> str:
        """SQL of a check with the batch filled in."""
        return check.sql.strip().replace("{batch}", f"({self.batch})")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one expectation said in one run; a row of governance.quality_results."""

    suite: str
    layer: str
    table: str
    expectation: str
    column: str
    severity: Severity
    success: bool
    observed: str
    expected: str
    message: str

    @property
    def stops(self) -> bool:
        """Whether this outcome holds back what is downstream."""
        return not self.success and self.severity == "error"

    @property
    def reason(self) -> str:
        """One line for logs: which expectation of which column, seen against expected."""
        where = f"{self.table}.{self.column}" if self.column else self.table
        text = (
            f"{self.severity.upper()} {self.suite}: {self.expectation} on {where}: "
            f"observed {self.observed}, expected {self.expected}"
        )
        return f"{text} ({self.message})" if self.message else text


class GateFailedError(Exception):
    """At least one error-severity expectation failed; the message lists every one."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.failed = [outcome for outcome in outcomes if outcome.stops]
        lines = "\n  ".join(outcome.reason for outcome in self.failed)
        super().__init__(
            f"quality gate failed: {len(self.failed)} of {len(outcomes)} expectations\n  {lines}"
        )
