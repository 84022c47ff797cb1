"""Checks every suite of every layer, whether or not anything was built.

It sees what a build cannot: that nothing lands any more, that marts fall behind, that someone
changed a table. On failure: docs/runbooks/quality__check__hourly.md
"""

from __future__ import annotations

from airflow.sdk import dag

from herald.orchestration import DEFAULT_ARGS, Tag, quality_gate


@dag(
    schedule="37 * * * *",
    # no start_date: with one, a new platform would run the last interval at once, amid its start
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    tags=[Tag.TIER_1, Tag.QUALITY],
)
def quality__check__hourly() -> None:
    # one process for all layers: the library behind the suites takes seconds to start
    quality_gate("raw", "staging", "marts", task_id="check_all_layers")


quality__check__hourly()
