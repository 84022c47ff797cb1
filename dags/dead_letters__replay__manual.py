"""Replays dead letters into their topic, by hand: choose what, look at a dry run, then send.

Params: `class` of the error, `field`, `topic`, `tenant`, `since` and `until` (90m, 2h, 7d or an ISO
time), `fix_up` (a JSONata expression over the event that gives what is sent), each '' for all or
none, `limit` and `dry_run`. Each message is replayed once, whatever is asked again.
On failure: docs/runbooks/dead_letters__replay__manual.md
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Param, dag

from herald.orchestration import DEFAULT_ARGS, Tag, herald_command


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    tags=[Tag.TIER_2, Tag.LANDING],
    params={
        "class": Param("", type="string", description="Error class, '' for all."),
        "field": Param("", type="string", description="Field that was refused."),
        "topic": Param("", type="string", description="Topic they came from."),
        "tenant": Param("", type="string", description="Tenant that the event names."),
        "since": Param("", type="string", description="Landed since: 90m, 2h, 7d or ISO."),
        "until": Param("", type="string", description="Landed before: 90m, 2h, 7d or ISO."),
        "fix_up": Param("", type="string", description="JSONata expression over the event."),
        "limit": Param(1_000_000, type="integer", minimum=1, description="Most letters."),
        "dry_run": Param(True, type="boolean", description="Count, send nothing."),
    },
)
def dead_letters__replay__manual() -> None:
    herald_command(
        "replay_dead_letters",
        "dead-letters",
        "replay",
        options={
            "class": "{{ params['class'] }}",
            "field": "{{ params.field }}",
            "topic": "{{ params.topic }}",
            "tenant": "{{ params.tenant }}",
            "since": "{{ params.since }}",
            "until": "{{ params.until }}",
            "fix-up": "{{ params.fix_up }}",
            "limit": "{{ params.limit }}",
            "dry-run": "{{ params.dry_run }}",
            "examples": "0",  # events hold pseudonyms, and a task's log is read by many
            "principal": "dag:{{ run_id }}",
        },
    )


dead_letters__replay__manual()
