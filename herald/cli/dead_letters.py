"""`herald dead-letters`: look at refused events, mend them, send them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from herald.cli.output import emit, fail

if TYPE_CHECKING:
    from herald.dead_letters.selection import Selection

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Class = Annotated[str, typer.Option("--class", help="Error class, such as wrong_type.")]
Field = Annotated[str, typer.Option(help="Field that was refused.")]
Topic = Annotated[str, typer.Option(help="Topic they came from.")]
Tenant = Annotated[str, typer.Option(help="Tenant that the event names.")]
Since = Annotated[str, typer.Option(help="Landed since: 90m, 2h, 7d or an ISO time.")]
Until = Annotated[str, typer.Option(help="Landed before: 90m, 2h, 7d or an ISO time.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    letters = typer.Typer(help="Events that were refused.", no_args_is_help=True)
    letters.command("stats")(count_letters)
    letters.command("list")(list_letters)
    letters.command("show")(show_letter)
    letters.command("replay")(replay_letters)
    app.add_typer(letters, name="dead-letters")


@contextmanager
def _failures() -> Iterator[None]:
    from herald.dead_letters.errors import DeadLetterError

    try:
        yield
    except DeadLetterError as error:
        fail(str(error))


def _selection(
    error_class: str, field: str, topic: str, tenant: str, since: str, until: str
) -> Selection:
    from herald.dead_letters.selection import Selection, parse_time

    return Selection(
        error_class,
        field,
        topic,
        parse_time(since, option="--since"),
        parse_time(until, option="--until"),
        tenant,
    )


def count_letters(
    error_class: Class = "",
    field: Field = "",
    topic: Topic = "",
    tenant: Tenant = "",
    since: Since = "",
    until: Until = "",
    as_json: Json = False,
) -> None:
    """Count dead letters by topic, class and field."""
    from herald.dead_letters.browse import summarize
    from herald.settings import load_settings
    from herald.warehouse.client import connect

    with _failures():
        selection = _selection(error_class, field, topic, tenant, since, until)
        emit(summarize(connect(load_settings().warehouse), selection), as_json=as_json)


def list_letters(
    error_class: Class = "",
    field: Field = "",
    topic: Topic = "",
    tenant: Tenant = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first, without their values."""
    from herald.dead_letters.browse import page
    from herald.settings import load_settings
    from herald.warehouse.client import connect

    with _failures():
        selection = _selection(error_class, field, topic, tenant, since, until)
        found = page(connect(load_settings().warehouse), selection, limit=limit)
    shown = ("id", "landed_at", "tenant_id", "error_class", "error_message", "is_replayed")
    rows = found.letters if as_json else [{n: row[n] for n in shown} for row in found.letters]
    emit(rows, as_json=as_json)


def show_letter(
    letter: Annotated[str, typer.Argument(metavar="ID", help="topic:partition:offset.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter with its raw value and its replays."""
    from herald.dead_letters.browse import one
    from herald.dead_letters.selection import LetterId
    from herald.settings import load_settings
    from herald.warehouse.client import connect

    with _failures():
        found = one(connect(load_settings().warehouse), LetterId.parse(letter))
    if found is None:
        fail(f"no dead letter {letter}; `herald dead-letters list` shows them")
    emit(found, as_json=as_json)


def replay_letters(
    error_class: Class = "",
    field: Field = "",
    topic: Topic = "",
    tenant: Tenant = "",
    since: Since = "",
    until: Until = "",
    letter: Annotated[list[str] | None, typer.Option("--id", help="Only this; repeatable.")] = None,
    fix_up: Annotated[
        str, typer.Option(help="JSONata expression over the event that gives what is sent.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most letters to look at.")] = 1_000_000,
    examples: Annotated[
        int, typer.Option(min=0, max=100, help="Events to show before and after; 0 for logs.")
    ] = 3,
    principal: Annotated[str, typer.Option(help="Who asks, for the ledger.")] = "cli",
    as_json: Json = False,
) -> None:
    """Mend dead letters and send them again, once each (docs/how-to/replay-dead-letters.md)."""
    from herald.dead_letters.replay import replay
    from herald.dead_letters.selection import LetterId
    from herald.settings import load_settings
    from herald.warehouse.client import connect

    settings = load_settings()
    with _failures():
        selection = _selection(error_class, field, topic, tenant, since, until)
        if letter:
            selection = replace(selection, ids=tuple(LetterId.parse(text) for text in letter))
        outcome = replay(
            connect(settings.warehouse),
            settings,
            selection,
            fix_up=fix_up,
            dry_run=dry_run,
            again=again,
            limit=limit,
            examples=examples,
            principal=principal,
        )
    record = asdict(outcome)
    if as_json:
        emit(record, as_json=True)
        return
    shown = record.pop("examples")
    record["reasons"] = ", ".join(f"{why}: {count}" for why, count in outcome.reasons.items())
    emit(record, as_json=False)
    if shown:
        emit(shown, as_json=False)
