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
    fuzz: Annotated[
        int, typer.Option(min=0, help="Instead: so many events, 1 in 100 mutated.")
    ] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Record; default <state_dir>/chaos.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kill parts of a platform at exact moments; 0 lost, 0 doubled (docs/how-to/run-chaos.md)."""
    from dataclasses import asdict

    from herald.chaos.fuzz import run_fuzz
    from herald.chaos.rig import ChaosError
    from herald.chaos.run import record, run_chaos, table
    from herald.records import now, read_record, write_record
    from herald.settings import load_settings

    settings, started = load_settings(), now()
    path = output or settings.state_dir / "chaos.json"
    known = {"kills", "faults", "not_run", "summary", "fuzz"}
    kept = {k: v for k, v in read_record(path).items() if k in known}
    try:
        if fuzz:
            found = asdict(run_fuzz(settings, fuzz, seed, _say))
            payload, is_right = {"fuzz": found}, not (found["unaccounted"] or found["restarts"])
            shown = [found]
        else:
            outcome = run_chaos(
                settings, kills=kills, seed=seed, rate=rate, minutes=minutes, only=only, say=_say
            )
            payload, shown = record(outcome), table(outcome.blows)
            total = payload["summary"]
            is_right = not (total["lost"] or total["duplicated"] or total["rollup_difference"])
            is_right = is_right and total["control_duplicates"] > 0
    except ChaosError as error:
        fail(str(error))
    command = f"herald chaos --fuzz {fuzz}" if fuzz else f"herald chaos -n {kills} --seed {seed}"
    write_record(path, command=command, started_at=started, **{**kept, **payload})
    emit(shown, as_json=as_json)
    if not is_right:
        fail(f"something is wrong; see {path}")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
