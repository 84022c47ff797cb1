"""What the project's macros come to, for sqlfluff's jinja templater, which runs no dbt macros."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_MACROS = Path(__file__).resolve().parent.parent / "macros"

this = "marts.this_model"
run_started_at = datetime(2026, 1, 1, tzinfo=UTC)


def _returned(macro: str) -> Any:
    """The literal that a macro of macros/counts.sql returns."""
    text = (_MACROS / "counts.sql").read_text()
    found = re.search(rf"macro {macro}\(\) -%}}\s*{{{{ return\((.*?)\) }}}}", text, re.S)
    if found is None:
        raise LookupError(f"macros/counts.sql has no macro {macro} that returns a literal")
    return ast.literal_eval(found.group(1))


def count_columns() -> list[str]:
    """Counts of the hourly marts."""
    return list(_returned("count_columns"))


def flag_counts() -> dict[str, str]:
    """Counts and the flag of a message they add up."""
    return dict(_returned("flag_counts"))


def run_stamp() -> str:
    """Start of the run."""
    return "toDateTime64('2026-01-01 00:00:00.000', 3, 'UTC')"


def watermark(column: str = "updated_at") -> str:
    """Newest value of a column."""
    return f"(select max({column}) from marts.this_model)"


def touched_periods(period: str) -> str:
    """Periods to compute again."""
    return (
        f"select distinct tenant_id as touched_tenant_id, {period}(updated_at) as period_at from t"
    )


def ratio(numerator: str, denominator: str) -> str:
    """A ratio."""
    return f"toFloat64({numerator}) / nullIf(toFloat64({denominator}), 0)"


def shown_in_app() -> str:
    """Channels that are shown, not sent."""
    return "('in_app', 'content_card')"
