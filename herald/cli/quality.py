"""`herald quality`: check the layers, write the report, delete old pages."""

from __future__ import annotations

from typing import Annotated

import typer

from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `herald quality`."""
    group = typer.Typer(help="Quality gates, pages and reports.", no_args_is_help=True)
    group.command("check")(check_command)
    group.command("report")(report_command)
    group.command("prune")(prune_command)
    app.add_typer(group, name="quality")


def check_command(
    suites: Annotated[list[str] | None, typer.Argument(help="Such as raw__events.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="raw, staging or marts.")] = None,
    run_id: Annotated[str, typer.Option(help="Name of the run in results and pages.")] = "",
    as_json: Json = False,
) -> None:
    """Check suites or layers, all by default; exit code 1 when a gate is closed."""
    import subprocess
    from pathlib import Path

    from herald.environments import env_python
    from herald.settings import ROOT

    python = env_python("warehouse")
    if not Path(python).is_file():
        fail(f"no warehouse environment at {python}: run `make setup`", code=2)
    words = [python, "-m", "expectations.run", *(suites or [])]
    for name in layer or []:
        words += ["--layer", name]
    if run_id:
        words += ["--run-id", run_id]
    if as_json:
        words.append("--json")
    raise typer.Exit(subprocess.run(words, cwd=ROOT, check=False).returncode)


def report_command(
    hours: Annotated[int, typer.Option(min=1, help="Checks and dead letters of so long.")] = 24,
    as_json: Json = False,
) -> None:
    """Write the data-quality report as HTML and JSON under <state_dir>/reports."""
    from datetime import UTC, datetime, timedelta

    from expectations.report import build_report, write_report
    from herald.settings import load_settings
    from herald.warehouse.client import connect

    settings = load_settings()
    now = datetime.now(UTC)
    client = connect(settings.warehouse, "writer")
    report = build_report(client, now=now, since=now - timedelta(hours=hours))
    files = write_report(report, settings.state_dir / "reports")
    emit({**report["summary"], "html": str(files.html), "json": str(files.json)}, as_json=as_json)


def prune_command(as_json: Json = False) -> None:
    """Delete quality pages, reports and task logs older than HERALD_RETENTION__FILES_DAYS."""
    from datetime import UTC, datetime

    from expectations.housekeeping import prune_files
    from herald.settings import load_settings

    emit(prune_files(load_settings(), now=datetime.now(UTC)), as_json=as_json)
