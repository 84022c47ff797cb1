"""`herald land`: the landing path."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("land")(land)


def land() -> None:
    """Land events and reference records in the foreground until Ctrl-C."""
    from herald.settings import load_settings
    from spark_jobs.jobs.land_events import run

    raise typer.Exit(run(load_settings()))
