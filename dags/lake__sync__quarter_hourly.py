"""Copies what landed into the lake, each range exactly once; nothing landed, nothing done.

Runs of it may be ended or repeated at any moment.
On failure: docs/runbooks/lake__sync__quarter_hourly.md
"""

from __future__ import annotations

from airflow.sdk import dag

from herald.orchestration import DEFAULT_ARGS, Tag, herald_command


@dag(
    schedule="4,19,34,49 * * * *",
    # no start_date: with one, a new platform would run the last interval at once, amid its start
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    tags=[Tag.TIER_2, Tag.LANDING],
)
def lake__sync__quarter_hourly() -> None:
    herald_command("sync_lake", "lake", "sync")


lake__sync__quarter_hourly()
