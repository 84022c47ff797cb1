"""`herald chaos`: kills and faults against a platform of its own, counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from herald.cli.output import emit, fail


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("chaos")(chaos)


def chaos(
    kills: Annotated[int, typer.Option("-n", "--kills", min=0, help="How many kills.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed draws the same series.")] = 1,
    rate: Annotated[int, typer.Option(min=100, help="Events/s produced meanwhile.")] = 1_500,
    minutes: Annotated[float, typer.Option(min=0.1, help="End after so long.")] = 120.0,
    only: Annotated[str, typer.Option(help="A victim, or victim/moment.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="Record; default <state_dir>/chaos.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kill parts of a platform at exact moments; 0 lost, 0 doubled (docs/how-to/run-chaos.md)."""
    from herald.chaos.rig import ChaosError
    from herald.chaos.run import run_chaos, table
    from herald.settings import load_settings

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    try:
        blows = run_chaos(
            load_settings(),
            kills=kills,
            seed=seed,
            rate=rate,
            minutes=minutes,
            only=only,
            say=say,
        )
    except ChaosError as error:
        fail(str(error))
    emit(table(blows), as_json=as_json)
