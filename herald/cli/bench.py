"""`herald bench`: measure the platform; figures go to <state_dir>/bench.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from herald.cli.metrics import bench_api
from herald.cli.output import emit, fail

Output = Annotated[Path | None, typer.Option(help="Record; default <state_dir>/bench.json.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands that measure."""
    bench = typer.Typer(help="Measure the platform.", no_args_is_help=True)
    bench.command("all")(bench_all)
    bench.command("landing")(bench_landing)
    bench.command("ways")(bench_ways)
    bench.command("cost")(bench_cost)
    bench.command("page")(bench_page)
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


def bench_all(
    only: Annotated[str, typer.Option(help="Steps or rows, with commas: visible,recovery_s.")] = "",
    events: Annotated[int, typer.Option(min=10_000, help="Backlog to drain.")] = 3_000_000,
    seconds: Annotated[
        float, typer.Option(min=0, help="Seconds of each flow; 0: full length, goals are met so.")
    ] = 0,
    sustained_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds of the sustained flow; 0: 300, or --seconds.")
    ] = 0,
    sustained_rate: Annotated[float, typer.Option(min=100, help="Events/s sustained.")] = 100_000,
    rate: Annotated[
        float, typer.Option(min=0, help="Events/s of latency, live page, recovery; 0: 50,000.")
    ] = 0,
    clients: Annotated[int, typer.Option(min=1, help="Clients of the live page.")] = 1_000,
    find_highest: Annotated[
        bool, typer.Option("--find-highest", help="Also the highest rate whose lag does not grow.")
    ] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Measure every row in one run on a platform of its own (about 25 minutes)."""
    from herald.bench.stage import BenchError
    from herald.bench.suite import Plan, run_all
    from herald.settings import load_settings

    plan = Plan(events, seconds, sustained_seconds, sustained_rate, rate, clients, find_highest)
    names = [name.strip() for name in only.split(",") if name.strip()]
    try:
        rows, problems = run_all(
            load_settings(), plan=plan, only=names, output=output, command=_typed()
        )
    except BenchError as error:
        fail(str(error))
    emit(rows if as_json else [_brief(row) for row in rows], as_json=as_json)
    if problems:
        fail("not measured: " + "; ".join(problems))


def bench_ways(
    events: Annotated[int, typer.Option(min=10_000, help="Events of each way.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=5, help="Seconds of each real-time query.")] = 30,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Compare the ways that Spark offers from Kafka to the warehouse."""
    from herald.bench.stage import BenchError
    from herald.bench.ways import run_ways_bench
    from herald.settings import load_settings

    try:
        points = run_ways_bench(load_settings(), events, seconds, output, command=_typed())
    except BenchError as error:
        fail(str(error))
    emit(points, as_json=as_json)


def bench_cost(
    events: Annotated[int, typer.Option(min=10_000, help="Events of each point.")] = 600_000,
    seconds: Annotated[float, typer.Option(min=4, help="Seconds of each rate.")] = 30,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """CPU of an event by stage, as batches, fields and rates grow."""
    from herald.bench.cost import run_cost_bench
    from herald.bench.stage import BenchError
    from herald.settings import load_settings

    try:
        points = run_cost_bench(load_settings(), events, seconds, output, command=_typed())
    except BenchError as error:
        fail(str(error))
    emit(points, as_json=as_json)


def bench_page(
    record: Annotated[
        Path | None, typer.Option(help="Record; default <state_dir>/bench.json.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where docs are; default those of the checkout.")
    ] = None,
) -> None:
    """Write docs/reference/benchmarks.md and its plots from the record."""
    from herald.bench.page import write_page
    from herald.settings import ROOT, load_settings

    path = record or load_settings().state_dir / "bench.json"
    if not path.is_file():
        fail(f"{path} does not exist: `make bench` measures and writes it")
    written = write_page(path, folder or ROOT / "docs")
    emit({"written": [str(one) for one in written]}, as_json=False)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name, "") for name in ("name", "value", "unit", "goal", "met")}


def _typed() -> str:
    return " ".join(["herald", *sys.argv[1:]])
