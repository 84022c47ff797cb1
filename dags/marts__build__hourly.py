"""Builds the marts from what landed, layer by layer, with a quality gate before each.

raw gate -> staging -> staging gate -> intermediate and marts -> marts gate. A closed gate fails
its task without a retry, with the reasons in its log, and nothing downstream runs: dashboards keep
the last marts that passed. On failure: docs/runbooks/marts__build__hourly.md
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import chain, dag

from herald.orchestration import (
    DEFAULT_ARGS,
    EVENTS_LANDED,
    MARTS_BUILT,
    Tag,
    dbt_build,
    quality_gate,
)


@dag(
    schedule=[EVENTS_LANDED],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    tags=[Tag.TIER_1, Tag.MARTS],
)
def marts__build__hourly() -> None:
    chain(
        quality_gate("raw"),
        dbt_build("staging", select="tag:staging"),
        quality_gate("staging"),
        dbt_build("marts", select="tag:intermediate tag:marts"),
        quality_gate("marts", outlets=[MARTS_BUILT]),
    )


marts__build__hourly()
