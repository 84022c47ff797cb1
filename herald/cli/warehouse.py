"""`herald migrate` and `herald retention`: the warehouse's tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the warehouse."""
    app.command("migrate")(migrate_command)
    retention = typer.Typer(help="How long rows are kept.", no_args_is_help=True)
    retention.command("apply")(retention_apply)
    retention.callback()(_group)
    app.add_typer(retention, name="retention")


def _group() -> None:
    """Keep `retention` a group although it has one command."""


def migrate_command(
    status: Annotated[bool, typer.Option("--status", help="Show, change nothing.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a half-applied migration.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Apply the pending migrations of infra/clickhouse/migrations."""
    from herald.settings import load_settings
    from herald.warehouse.client import connect
    from herald.warehouse.migrations import MigrationError, migrate, migration_status

    client = connect(load_settings().warehouse)
    try:
        applied = [] if status else migrate(client, resume=resume)
        states = [asdict(s) for s in migration_status(client)]
    except MigrationError as error:
        fail(str(error))
    emit([s | {"now": s["name"] in applied} for s in states], as_json=as_json)


def retention_apply(as_json: Json = False) -> None:
    """Set the tables' time to live from the settings (HERALD_RETENTION__*)."""
    from herald.settings import load_settings
    from herald.warehouse.client import connect
    from herald.warehouse.retention import apply_retention

    settings = load_settings()
    emit(apply_retention(connect(settings.warehouse), settings.retention), as_json=as_json)
