"""`herald land` and `herald dead-letters`: the landing path."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Class = Annotated[str, typer.Option("--class", help="Error class, such as wrong_type.")]
Field = Annotated[str, typer.Option(help="Field that was refused.")]
Since = Annotated[str, typer.Option(help="Landed since: 90m, 2h, 7d or an ISO time.")]
Topic = Annotated[str, typer.Option(help="Topic they came from.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the landing path."""
    app.command("land")(land)
    letters = typer.Typer(help="Events that were refused.", no_args_is_help=True)
    letters.command("list")(list_letters)
    letters.command("show")(show_letters)
    letters.command("replay")(replay_letters)
    app.add_typer(letters, name="dead-letters")


def land() -> None:
    """Land events and reference records in the foreground until Ctrl-C."""
    from herald.settings import load_settings
    from spark_jobs.jobs.land_events import run

    raise typer.Exit(run(load_settings()))


def list_letters(
    error_class: Class = "",
    field: Field = "",
    since: Since = "",
    topic: Topic = "",
    as_json: Json = False,
) -> None:
    """Count dead letters by topic, class and field."""
    from herald.settings import load_settings
    from herald.warehouse.client import connect
    from herald.warehouse.dead_letters import DeadLetterError, Selection, parse_since, summarize

    try:
        selection = Selection(error_class, field, topic, parse_since(since))
        emit(summarize(connect(load_settings().warehouse), selection), as_json=as_json)
    except DeadLetterError as error:
        fail(str(error))


def show_letters(
    error_class: Class = "",
    field: Field = "",
    since: Since = "",
    topic: Topic = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 10,
    as_json: Json = False,
) -> None:
    """Show the newest dead letters with their raw value."""
    from herald.settings import load_settings
    from herald.warehouse.client import connect
    from herald.warehouse.dead_letters import DeadLetterError, Selection, parse_since, show

    try:
        selection = Selection(error_class, field, topic, parse_since(since))
        emit(show(connect(load_settings().warehouse), selection, limit), as_json=as_json)
    except DeadLetterError as error:
        fail(str(error))


def replay_letters(
    error_class: Class = "",
    field: Field = "",
    since: Since = "",
    topic: Topic = "",
    fix_up: Annotated[
        str, typer.Option(help="ClickHouse expression over `value` that gives what is sent.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    as_json: Json = False,
) -> None:
    """Send dead letters to their topic again, once each (docs/how-to/replay-dead-letters.md)."""
    from herald.settings import load_settings
    from herald.warehouse.client import connect
    from herald.warehouse.dead_letters import DeadLetterError, Selection, parse_since, replay

    settings = load_settings()
    try:
        outcome = replay(
            connect(settings.warehouse),
            settings.kafka.servers,
            Selection(error_class, field, topic, parse_since(since)),
            fix_up=fix_up,
            dry_run=dry_run,
            again=again,
        )
    except DeadLetterError as error:
        fail(str(error))
    emit(asdict(outcome), as_json=as_json)
