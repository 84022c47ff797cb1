"""What every measurement needs: a platform of its own, a landing job, events in the broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clickhouse_connect.driver.client import Client

from herald.settings import Settings, load_settings
from herald.simulator.options import SimulationOptions
from herald.simulator.stream import Simulation
from herald.sources.errors import BrokerDownError
from herald.sources.producer import BulkProducer
from herald.sources.sinks import EVENTS, KafkaSink
from herald.warehouse.client import connect
from infra.local.environment import child_environment
from infra.local.ports import free_ports
from infra.local.secrets import ensure_secrets

STALL_SECONDS = 120.0


class BenchError(Exception):
    """The measurement could not be made; the message says where it stopped."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was simulated: the valid lines as a file, and how long generating took."""

    path: Path
    events: int
    json_bytes: int
    seconds: float


def own_settings(state: Path, settings: Settings) -> Settings:
    """Settings of a platform in its own folder, on free ports; those of the landing are kept."""
    ensure_secrets(state)
    ports = iter(free_ports(5))
    return load_settings(
        state_dir=state,
        kafka={"port": next(ports), "controller_port": next(ports)},
        warehouse={"port": next(ports)},
        valkey={"port": next(ports)},
        api={"port": next(ports)},
        landing=settings.landing.model_dump(),
    )


@contextmanager
def landing_job(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A landing job that leads a process group, so that it can be stopped as a whole."""
    log = settings.state_dir / "landing.log"
    with log.open("wb") as out:
        job = subprocess.Popen(
            [sys.executable, "-m", "spark_jobs.jobs.land_events"],
            env={**os.environ, **child_environment(settings)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield job
    finally:
        os.killpg(job.pid, signal.SIGCONT)
        os.killpg(job.pid, signal.SIGTERM)
        try:
            job.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()


def await_broker(settings: Settings, patience: float = 60.0) -> None:
    """Wait until every partition of the events has a leader: right after a start some have none.

    Raises:
        BrokerDownError: there is no broker, or it does not become ready.
    """
    deadline = time.monotonic() + patience
    producer = BulkProducer(settings.kafka.servers)
    while True:
        try:
            producer.end_offsets([settings.kafka.topics.events])
        except BrokerDownError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def await_merges(settings: Settings, patience: float = 60.0) -> None:
    """Wait until the warehouse merges nothing that an earlier measurement left to it."""
    deadline = time.monotonic() + patience
    client = connect(settings.warehouse)
    while client.query("SELECT count() FROM system.merges").result_rows[0][0]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    client.close()


def produce(settings: Settings, events: int, seed: int) -> Backlog:
    """Produce a simulation; generating is timed apart from sending."""
    await_broker(settings)
    simulation = Simulation(SimulationOptions(events=events, seed=seed, end=datetime.now(UTC)))
    path = settings.state_dir / f"events-{seed}.jsonl"
    seconds, count, size = 0.0, 0, 0
    with KafkaSink(settings.kafka.servers, settings.kafka.topics) as sink, path.open("wb") as file:
        batches = simulation.batches()
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            seconds += time.perf_counter() - begun
            if batch is None:
                break
            values = batch.values.to_list()
            sink.write(EVENTS, list(zip(batch.keys.to_list(), values, strict=True)))
            for value in values:
                count += 1
                size += len(value)
                file.write(value + b"\n")
        sink.finish()
    return Backlog(path, count, size, seconds)


def await_rows(
    client: Client, settings: Settings, job: subprocess.Popen[bytes], expected: int
) -> None:
    """Wait until the ledger accounts for so many events."""
    topic = settings.kafka.topics.events
    last, since = -1, time.monotonic()
    while last < expected:
        found = client.query(
            "SELECT sum(rows_stored + rows_dead_lettered) FROM raw.landed_ranges "
            "WHERE topic = {topic:String}",
            parameters={"topic": topic},
        ).result_rows[0][0]
        if int(found) != last:
            last, since = int(found), time.monotonic()
        elif job.poll() is not None or time.monotonic() - since > STALL_SECONDS:
            tail = (settings.state_dir / "landing.log").read_text(errors="replace")[-2_000:]
            raise BenchError(f"landing stopped at {last} of {expected} events:\n{tail}")
        time.sleep(0.1)
