"""`herald live`: rollups against the events they count."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Instant = Annotated[str, typer.Option(help="UTC, ISO 8601, such as 2026-11-01T00:00:00Z.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the live rollups."""
    live = typer.Typer(help="Rollups per second, minute and hour.", no_args_is_help=True)
    live.command("check")(check)
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


def _instant(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--{name} {text!r}: give an instant such as 2026-11-01T00:00:00Z", code=2)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
