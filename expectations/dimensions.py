"""The checks that every slowly changing dimension passes."""

from __future__ import annotations

from expectations.checks import not_empty, not_null, rows
from expectations.model import Suite


def dimension(table: str, key: str) -> Suite:
    """Suite of a dimension with tenant_id, its key, valid_from, valid_to, is_current."""
    return Suite(
        table=table,
        layer="marts",
        purpose="History without gaps: one current version of each entity, versions that do not"
        " overlap.",
        checks=(
            *not_empty("tenant_id", key),
            *not_null("valid_from"),
            rows(
                "one_row_is_current",
                f"select tenant_id, {key}, countIf(is_current) as current_rows from {{batch}}"
                f" group by tenant_id, {key} having current_rows != 1",
                "exactly one current row for each entity",
                column="is_current",
            ),
            rows(
                "versions_do_not_overlap",
                f"select tenant_id, {key}, valid_from, previous_to from ("
                f" select tenant_id, {key}, valid_from, row_number() over w as version,"
                " lagInFrame(valid_to) over (partition by tenant_id, "
                f"{key} order by valid_from"
                " rows between 1 preceding and current row) as previous_to"
                f" from {{batch}} window w as (partition by tenant_id, {key} order by valid_from))"
                " where version > 1 and (previous_to is null or previous_to > valid_from)",
                "each version ends before the next begins",
                column="valid_to",
            ),
            rows(
                "validity_is_forward",
                f"select tenant_id, {key}, valid_from, valid_to from {{batch}}"
                " where valid_to is not null and valid_to < valid_from",
                "valid_to >= valid_from",
                column="valid_to",
            ),
        ),
    )
