"""Writes the data-quality report of the last day as HTML and JSON under `<state_dir>/reports`.

Checks by suite and their trend, dead letters by class, reconciliation of produced against stored.
On failure: docs/runbooks/quality__report__daily.md
"""

from __future__ import annotations

from airflow.sdk import dag

from herald.orchestration import DEFAULT_ARGS, Tag, herald_command


@dag(
    schedule="15 6 * * *",
    # no start_date: with one, a new platform would run the last interval at once, amid its start
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    tags=[Tag.TIER_2, Tag.QUALITY],
)
def quality__report__daily() -> None:
    herald_command("write_report", "quality", "report")


quality__report__daily()
