"""`herald bench`: measure the platform; figures go to <state_dir>/bench.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from herald.cli.metrics import bench_api
from herald.cli.output import emit, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands that measure."""
    bench = typer.Typer(help="Measure the platform.", no_args_is_help=True)
    bench.command("landing")(bench_landing)
    bench.command("api")(bench_api)
    bench.callback()(_bench)
    app.add_typer(bench, name="bench")


def _bench() -> None:
    """Measure the platform; figures go to <state_dir>/bench.json."""


def bench_landing(
    events: Annotated[int, typer.Option(min=10_000, help="Events to land.")] = 3_000_000,
    output: Annotated[
        Path | None, typer.Option(help="Record; default <state_dir>/bench.json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Land a backlog on a platform of its own; compare with chDB alone and a plain consumer."""
    from herald.bench.landing import run_landing_bench
    from herald.bench.stage import BenchError
    from herald.settings import load_settings

    try:
        rows = run_landing_bench(load_settings(), events, output)
    except BenchError as error:
        fail(str(error))
    emit(rows, as_json=as_json)
