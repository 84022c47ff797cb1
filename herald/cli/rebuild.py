"""`herald rebuild`: the warehouse from the lake."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `herald rebuild`."""
    app.command("rebuild")(rebuild_command)


def rebuild_command(
    source: Annotated[str, typer.Option("--from", help="Where the rows are: lake.")] = "lake",
    replace: Annotated[
        bool, typer.Option("--replace", help="Empty tables that hold rows.")
    ] = False,
    marts: Annotated[bool, typer.Option(help="Build the marts anew afterwards.")] = True,
    as_json: Json = False,
) -> None:
    """Write the raw tables and rollups anew, then the marts. Stop landing first."""
    from herald.lake.store import LakeError, open_catalog
    from herald.lake.sync import Lake
    from herald.settings import load_settings
    from herald.warehouse.client import connect
    from herald.warehouse.dbt import run_dbt
    from spark_jobs.rebuild import landing_runs, rebuild_from_lake

    if source != "lake":
        fail(f"--from {source!r}: only `lake`", code=2)
    settings = load_settings()
    if landing_runs(settings):
        fail("landing runs: it would write while tables are emptied; end it first", code=2)

    def progress(table: str, done: int, total: int) -> None:
        sys.stderr.write(f"{table}: {done:,} of {total:,} rows\n")

    try:
        lake = Lake(open_catalog(settings), settings)
        rebuilt = rebuild_from_lake(
            connect(settings.warehouse), lake, settings, replace=replace, progress=progress
        )
    except LakeError as error:
        fail(str(error))
    if (
        marts
        and run_dbt(
            settings,
            ["build", "--full-refresh", "--exclude-resource-type", "unit_test"],
            capture=as_json,
        ).returncode
    ):
        fail("the raw tables are back, but dbt failed: see its output, then `dbt build` again")
    emit([{"table": t, "rows": n} for t, n in rebuilt.rows.items()], as_json=as_json)
