"""Where events come from: `herald simulate`, `herald produce`, `herald import`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from herald.cli.output import emit, fail
from herald.settings import Settings, load_settings

if TYPE_CHECKING:
    from herald.sources.sinks import Sink

Json = Annotated[bool, typer.Option("--json", help="Print a JSON summary, without a bar.")]
Topic = Annotated[str, typer.Option(help="Topic of the events; default from the settings.")]
Rate = Annotated[float, typer.Option(min=0, help="Events a second; 0 is as fast as possible.")]
Limit = Annotated[int, typer.Option(min=0, help="Most rows to read; 0 reads all.")]


class Target(StrEnum):
    """Where a simulation goes."""

    KAFKA = "kafka"
    FILE = "file"
    STDOUT = "stdout"


class Policy(StrEnum):
    """Behaviour policies of the Open Bandit data."""

    RANDOM = "random"
    BTS = "bts"
    ALL = "all"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("simulate")(simulate)
    app.command("produce")(produce)
    imports = typer.Typer(no_args_is_help=True, help="Read public data sets into the platform.")
    imports.command("open-bandit")(import_open_bandit)
    imports.command("hillstrom")(import_hillstrom)
    app.add_typer(imports, name="import")


def simulate(
    path: Annotated[Path | None, typer.Argument(help="File, with `--to file`.")] = None,
    events: Annotated[int, typer.Option(min=0, help="Events in all; 0: from users, days.")] = 0,
    users: Annotated[int, typer.Option(min=0, help="Users; 0: from the events.")] = 0,
    days: Annotated[float, typer.Option(help="Length of the simulated time.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and options, same bytes.")] = 7,
    tenant: Annotated[str, typer.Option(help="Tenant of the events.")] = "acme",
    end: Annotated[
        str, typer.Option(help="End of the simulated time, ISO 8601; default: this minute.")
    ] = "",
    rate: Rate = 0.0,
    to: Annotated[Target, typer.Option(help="Where to write.")] = Target.KAFKA,
    faults: Annotated[
        bool, typer.Option(help="Malformed, redelivered, late events and outages.")
    ] = True,
    malformed: Annotated[float, typer.Option(help="Share of malformed events.")] = 0.001,
    duplicates: Annotated[float, typer.Option(help="Share of redelivered events.")] = 0.002,
    late: Annotated[float, typer.Option(help="Share of late events.")] = 0.003,
    incidents: Annotated[
        int, typer.Option(min=0, max=20, help="Of each kind that alerts look for; last week.")
    ] = 0,
    canary_minutes: Annotated[int, typer.Option(min=0, help="Canaries so often; 0: none.")] = 0,
    topic: Topic = "",
    json: Json = False,
) -> None:
    """Simulate a notification service; its planted truth is written beside the data."""
    from pydantic import ValidationError

    from herald.simulator.options import SimulationOptions, default_end
    from herald.sources.progress import meter
    from herald.sources.simulate import simulate as run

    settings = load_settings()
    try:
        options = SimulationOptions(
            events=events or (0 if users else 100_000), users=users, days=days, seed=seed,
            tenant=tenant, end=_instant(end) if end else default_end(), faults=faults,
            malformed_share=malformed, duplicate_share=duplicates, late_share=late,
            incidents_per_kind=incidents, canary_minutes=canary_minutes,
        )  # fmt: skip
    except ValidationError as error:
        fail("; ".join(_problem(e) for e in error.errors()), code=2)
    truth = settings.state_dir / "simulate"
    with (
        _reported(),
        _target(settings, to, path, topic) as sink,
        meter("simulating", options.event_count, rate=rate, quiet=json) as bar,
    ):
        result = run(options, sink, bar, truth, rate=rate)
        sink.finish()
        emit_summary(sink, bar.seconds, as_json=json, to=to, **result)


def produce(
    file: Annotated[str, typer.Argument(help="JSON lines, Parquet (.parquet), or - for stdin.")],
    topic: Topic = "",
    rate: Rate = 0.0,
    json: Json = False,
) -> None:
    """Produce a file of events as they are; the landing job validates them."""
    from herald.sources.files import count_records, read_records
    from herald.sources.progress import meter
    from herald.sources.sinks import EVENTS, KafkaSink

    settings = load_settings()
    with _reported():
        total = count_records(file)
        with (
            KafkaSink(settings.kafka.servers, settings.kafka.topics, topic) as sink,
            meter("producing", total, rate=rate, quiet=json) as bar,
        ):
            for batch in read_records(file, rows=int(rate / 10) if rate else 0):
                sink.write(EVENTS, batch)
                bar.advance(len(batch))
            sink.finish()
            emit_summary(sink, bar.seconds, as_json=json, file=file)


def import_open_bandit(
    policy: Annotated[Policy, typer.Option(help="Behaviour policy.")] = Policy.ALL,
    limit: Limit = 0,
    topic: Topic = "",
    rate: Rate = 0.0,
    json: Json = False,
) -> None:
    """Import real impressions and clicks of a fashion shop (Open Bandit data, CC BY 4.0)."""
    from herald.sources.download import fetch_archive
    from herald.sources.open_bandit import REQUIREMENT, read

    settings = load_settings()
    with _reported():
        archive = fetch_archive(settings.state_dir / "downloads", REQUIREMENT)
        policies = ["random", "bts"] if policy is Policy.ALL else [policy.value]
        _import(read(archive, policies, limit), settings, topic, rate, as_json=json)


def import_hillstrom(
    path: Annotated[Path, typer.Argument(help="The CSV file, plain or .gz.")],
    limit: Limit = 0,
    topic: Topic = "",
    rate: Rate = 0.0,
    json: Json = False,
) -> None:
    """Import the MineThatData e-mail trial; its dates are nominal, the file carries none."""
    from herald.sources.hillstrom import read

    settings = load_settings()
    with _reported():
        _import(read(path, limit), settings, topic, rate, as_json=json)


def _import(data: Any, settings: Settings, topic: str, rate: float, *, as_json: bool) -> None:
    from herald.sources.progress import meter
    from herald.sources.sinks import EVENTS, KafkaSink

    with (
        KafkaSink(settings.kafka.servers, settings.kafka.topics, topic) as sink,
        meter(f"importing {data.name}", data.total, rate=rate, quiet=as_json) as bar,
    ):
        for stream, records in data.references.items():
            sink.write(stream, records)
        for batch in data.batches(int(rate / 10) if rate else 0):
            sink.write(EVENTS, batch)
            bar.advance(len(batch))
        sink.finish()
        emit_summary(sink, bar.seconds, as_json=as_json, mapped=data.mapped)


def emit_summary(sink: Sink, seconds: float, *, as_json: bool, **more: Any) -> None:
    """Print what was written; to standard error when the events went to standard output."""
    from herald.sources.sinks import EVENTS, KafkaSink, StdoutSink

    written = sink.counts()
    total = written.get(sink.name_of(EVENTS), 0)
    summary: dict[str, Any] = {
        "written": written,
        "seconds": round(seconds, 3),
        "events_per_second": round(total / seconds) if seconds else 0,
        **more,
    }
    if isinstance(sink, KafkaSink):
        summary["end_offsets_moved"] = sink.end_offset_deltas()
    if isinstance(sink, StdoutSink):
        typer.echo(str(summary), err=True)
    else:
        emit(summary, as_json=as_json)


def _target(settings: Settings, to: Target, path: Path | None, topic: str) -> Sink:
    from herald.sources.sinks import FileSink, KafkaSink, StdoutSink

    if to is Target.FILE:
        if path is None:
            fail("--to file needs a PATH: herald simulate --to file events.jsonl", code=2)
        return FileSink(path)
    if path is not None:
        fail(f"PATH {path} is only used with --to file, not with --to {to}", code=2)
    if to is Target.STDOUT:
        return StdoutSink()
    return KafkaSink(settings.kafka.servers, settings.kafka.topics, topic)


def _instant(text: str) -> datetime:
    from datetime import UTC

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--end {text!r} is not ISO 8601, such as 2026-11-01T00:00:00Z", code=2)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _problem(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    return f"--{name} {error['input']!r}: {error['msg']}" if name else str(error["msg"])


@contextmanager
def _reported() -> Iterator[None]:
    """Turn expected failures into one line and exit code 1."""
    from herald.sources.errors import SourceError

    try:
        yield
    except SourceError as error:
        fail(str(error))
