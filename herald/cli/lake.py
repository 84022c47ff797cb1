"""`herald lake`: landed events as Iceberg tables in S3."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from herald.cli.output import emit, fail

if TYPE_CHECKING:
    from herald.lake.sync import Lake
    from herald.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `herald lake`."""
    group = typer.Typer(help="Landed events as Iceberg tables in S3.", no_args_is_help=True)
    group.command("sync")(sync_command)
    group.command("status")(status_command)
    app.add_typer(group, name="lake")


def sync_command(as_json: Json = False) -> None:
    """Copy every landed range that is not in the lake yet, each exactly once."""
    from herald.lake.store import LakeError
    from herald.warehouse.client import connect

    settings, lake = _lake()
    try:
        done = lake.sync(connect(settings.warehouse))
    except LakeError as error:
        fail(str(error))
    emit(asdict(done), as_json=as_json)


def status_command(as_json: Json = False) -> None:
    """Rows, files and snapshots of each table, and how many landed ranges wait."""
    from herald.lake.status import status
    from herald.lake.store import LakeError
    from herald.warehouse.client import connect

    settings, lake = _lake()
    try:
        emit(status(lake, connect(settings.warehouse)), as_json=as_json)
    except LakeError as error:
        fail(str(error))


def _lake() -> tuple[Settings, Lake]:
    from herald.lake.store import LakeError, open_catalog
    from herald.lake.sync import Lake
    from herald.settings import load_settings

    settings = load_settings()
    try:
        return settings, Lake(open_catalog(settings), settings)
    except LakeError as error:
        fail(str(error), code=2)
