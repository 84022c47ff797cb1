"""`herald live`: rollups against the events they count, a rehearsed send, pictures of the page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Instant = Annotated[str, typer.Option(help="UTC, ISO 8601, such as 2026-11-01T00:00:00Z.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the live rollups."""
    live = typer.Typer(help="Rollups per second, minute and hour.", no_args_is_help=True)
    live.command("check")(check)
    live.command("rehearse")(rehearse)
    live.command("screenshots")(screenshots)
    live.callback()(_group)
    app.add_typer(live, name="live")


def _group() -> None:
    """Keep `live` a group although it has one command."""


def check(
    start: Instant = "",
    end: Instant = "",
    tenant: Annotated[str, typer.Option(help="Only this one's; all.")] = "",
    grain: Annotated[list[str] | None, typer.Option(help="second, minute, hour; all.")] = None,
    settle: Annotated[float, typer.Option(min=0, help="Seconds a difference may last.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Count raw.events again and compare with every rollup; 1 when they differ."""
    from herald.live.recount import check_rollups
    from herald.live.rollups import GRAINS
    from herald.settings import load_settings
    from herald.warehouse.client import connect

    names = [g for g in GRAINS if g in (grain or GRAINS)]
    if grain and (unknown := sorted(set(grain) - set(GRAINS))):
        fail(f"--grain {unknown[0]!r}: no such grain; known: {', '.join(GRAINS)}", code=2)
    counted = check_rollups(
        connect(load_settings().warehouse),
        start=_instant("start", start),
        end=_instant("end", end),
        tenant=tenant or None,
        grains=names,
        settle_seconds=settle,
    )
    records = [r.record() for r in counted]
    emit(
        records if as_json else [{**r, "shown": len(r["shown"])} for r in records], as_json=as_json
    )
    if not all(r.ok for r in counted):
        raise SystemExit(1)


def rehearse(
    tenant: Annotated[str, typer.Option(help="Whose send it is.")] = "rehearsal",
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Events a second.")] = 2_000,
    seconds: Annotated[float, typer.Option(min=0, help="How long it goes on.")] = 120,
    past_minutes: Annotated[float, typer.Option(min=0, max=110, help="Already sent before.")] = 0,
    history_days: Annotated[int, typer.Option(min=0, max=30, help="Quiet days before that.")] = 0,
    history_rate: Annotated[float, typer.Option(min=0.1, help="Events a second at its peak.")] = 3,
    incident: Annotated[
        str, typer.Option(help="none, silence or bounces; began in the last third of the past.")
    ] = "none",
    seed: int = 7,
    as_json: Json = False,
) -> None:
    """Send what was never sent, now, so that the live page has something to show."""
    import time

    from herald.rehearsal.run import RehearsalError, Rehearser
    from herald.rehearsal.send import INCIDENTS, Plan
    from herald.settings import load_settings

    if incident not in INCIDENTS:
        fail(f"--incident {incident!r}: no such incident; known: {', '.join(INCIDENTS)}", code=2)
    # a third of what is already past was disturbed too, so that rules with a long window see it
    begun = int(time.time() * 1_000 - past_minutes * 20_000)
    plan = Plan(tenant, rate, seed, incident, begun)
    rehearser = Rehearser(load_settings(), plan, say=lambda line: typer.echo(line, err=True))
    try:
        produced = rehearser.run(
            seconds=seconds,
            past_minutes=past_minutes,
            history_days=history_days,
            history_rate=history_rate,
        )
    except (RehearsalError, ValueError) as error:
        fail(str(error))
    emit(produced.record(), as_json=as_json)


def screenshots(
    tenant: Annotated[str, typer.Option(help="Whose figures are shown.")] = "rehearsal",
    scene: Annotated[
        list[str] | None, typer.Option(help="quiet, busy, alert, dark, phone; all.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of live-<scene>.png.")] = Path("docs/images"),
    window: Annotated[int, typer.Option(help="Minutes: 1, 5, 15, 60.")] = 15,
    as_json: Json = False,
) -> None:
    """Take pictures of the live page of the running platform, as it is now."""
    from herald.dashboards.browser import BrowserError
    from herald.rehearsal.pictures import SCENES, take
    from herald.settings import load_settings

    if unknown := sorted(set(scene or ()) - set(SCENES)):
        fail(f"--scene {unknown[0]!r}: no such scene; known: {', '.join(SCENES)}", code=2)
    try:
        pictures = take(load_settings(), scene or list(SCENES), out, tenant=tenant, window=window)
    except BrowserError as error:
        fail(str(error))
    emit([picture.record() for picture in pictures], as_json=as_json)


def _instant(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--{name} {text!r}: give an instant such as 2026-11-01T00:00:00Z", code=2)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
