"""Applies the retention of the settings: time to live of tables, old logs, pages and reports.

Both steps are idempotent. On failure: docs/runbooks/retention__apply__daily.md
"""

from __future__ import annotations

from airflow.sdk import dag

from herald.orchestration import DEFAULT_ARGS, Tag, herald_command


@dag(
    schedule="30 3 * * *",
    # no start_date: with one, a new platform would run the last interval at once, amid its start
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    tags=[Tag.TIER_2, Tag.HOUSEKEEPING],
)
def retention__apply__daily() -> None:
    herald_command("apply_table_retention", "retention", "apply")
    herald_command("prune_files", "quality", "prune")


retention__apply__daily()
