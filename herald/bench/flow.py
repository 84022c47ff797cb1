"""Events flowing at a set rate: the lag of landing, and how soon canaries are seen.

The producer is `herald.bench.pacer`, a process of its own on the same cores. What is waited for is
counted from the schedule, not from what the producer managed to send: a late producer is lag too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from herald.bench.pacer import Pace, encode
from herald.bench.stage import BenchError
from herald.bench.stats import Trend, trend
from herald.bench.usage import Meter
from herald.settings import Settings
from herald.sources.producer import BulkProducer
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError
from infra.local.platform import Platform

SERVICES = ("kafka", "warehouse", "landing")
POLL_SECONDS = 0.1
"""How often the rollup is asked for canaries; latencies are up to so much too long."""

SETTLE_SHARE = 0.2
MOST_SETTLE_SECONDS = 15.0
STRAGGLER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What was due and what was landed, in events of this flow, at seconds since its start."""

    seconds: float
    due: int
    landed: int

    @property
    def lag(self) -> int:
        """Events that should have been landed and are not."""
        return self.due - self.landed


@dataclass
class Flow:
    """One run at one rate.

    Attributes:
        rate: events a second that were asked for.
        samples: twice a second, without the first seconds in which a batch finds its size.
        latencies: seconds from each canary's due time until the rollup counted it.
        unseen: canaries that never appeared.
        sent: events that the broker acknowledged, canaries included.
        cpu: µs an event by process, over the whole flow.
    """

    rate: float
    samples: list[Sample] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    unseen: int = 0
    sent: int = 0
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def lag(self) -> Trend:
        """Regression line of the lag."""
        return trend([s.seconds for s in self.samples], [s.lag for s in self.samples])

    @property
    def landed_per_s(self) -> float:
        """Events landed a second over the samples."""
        first, last = self.samples[0], self.samples[-1]
        return (last.landed - first.landed) / (last.seconds - first.seconds)


class Producing:
    """A pacer process and what it says."""

    def __init__(self, settings: Settings, pace: Pace) -> None:
        self.pace = pace
        self.begun = 0.0
        self.acknowledged = 0
        self.canaries: dict[str, list[float]] = defaultdict(list)
        self._log = (settings.state_dir / "pacer.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "herald.bench.pacer", encode(pace)],
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_begun(self) -> None:
        """Wait until it simulated its events and sends them."""
        while not self._started.wait(0.2):
            if self.process.poll() is not None:
                raise BenchError(
                    f"the producer ended with {self.process.returncode}; its words are in pacer.log"
                )

    def due(self) -> int:
        """Events and canaries that the schedule asks for up to now."""
        elapsed = min(time.time() - self.begun, self.pace.seconds)
        return int(elapsed * self.pace.rate) + int(elapsed * self.pace.canaries)

    def end(self) -> None:
        """Stop it and wait for its last word.

        Raises:
            BenchError: it failed, so that its figures are none.
        """
        # at its own end it is left alone: a signal during an interpreter's exit is a failure
        if self.process.poll() is None and time.time() - self.begun < self.pace.seconds - 1:
            self.process.terminate()
        code = self.process.wait(150)
        self._reader.join(10)
        self._log.close()
        if code:
            raise BenchError(f"the producer ended with {code}; its words are in pacer.log")

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "begun" in said:
                self.begun = said["begun"]
                self._started.set()
            elif "canary" in said:
                self.canaries[said["campaign"]].append(said["at"])
            else:
                self.acknowledged = said["acknowledged"]


class Lookout:
    """Asks the rollup for canaries, in a thread, and notes when each was first counted."""

    def __init__(self, settings: Settings, producing: Producing) -> None:
        self._client = connect(settings.warehouse, "reader")
        self._producing = producing
        self._counted: dict[str, int] = defaultdict(int)
        self._stopping = threading.Event()
        self.seen: dict[str, list[float]] = defaultdict(list)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Ask once."""
        rows = self._client.query(
            "SELECT campaign_id, sum(sent) FROM live.events_second WHERE tenant_id = 'acme' "
            "AND bucket_at >= {since:DateTime} AND startsWith(campaign_id, {prefix:String}) "
            "GROUP BY campaign_id",
            parameters={
                "since": int(self._producing.begun) - 5,
                "prefix": self._producing.pace.prefix + "-",
            },
        ).result_rows
        now = time.time()
        for campaign, count in rows:
            new = int(count) - self._counted[campaign]
            self._counted[campaign] = int(count)
            self.seen[campaign] += [now] * new

    def _watch(self) -> None:
        while not self._stopping.is_set():
            begun = time.monotonic()
            # while the warehouse does not answer, canaries grow late, not lost
            with suppress(ClickHouseError, OSError):
                self.look()
            self._stopping.wait(max(0.0, POLL_SECONDS - (time.monotonic() - begun)))
        self._client.close()

    def finish(self, missing: Callable[[], int]) -> None:
        """Look on until none is missing, or for half a minute."""
        deadline = time.monotonic() + STRAGGLER_SECONDS
        while missing() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.stop()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(30)


class LandedCount:
    """How many events the ledger accounts for, since its making or since ever."""

    def __init__(self, settings: Settings, *, from_start: bool = False) -> None:
        self._settings = settings
        self._client = connect(settings.warehouse)
        self._before = 0
        if not from_start:
            self._before = self.read()

    def read(self) -> int:
        """Rows stored and dead-lettered of the events topic."""
        found = self._client.query(
            "SELECT sum(rows_stored + rows_dead_lettered) FROM raw.landed_ranges "
            "WHERE topic = {topic:String}",
            parameters={"topic": self._settings.kafka.topics.events},
        ).result_rows[0][0]
        return int(found) - self._before

    def try_read(self) -> int | None:
        """The same, or None while the warehouse does not answer."""
        try:
            return self.read()
        except (ClickHouseError, OSError, WarehouseDownError):
            return None

    def close(self) -> None:
        """Leave the warehouse."""
        self._client.close()


@contextmanager
def producing(platform: Platform, pace: Pace) -> Iterator[tuple[Producing, LandedCount]]:
    """A producer at work, and the count of what landed of it."""
    landed = LandedCount(platform.settings)
    source = Producing(platform.settings, pace)
    try:
        source.wait_begun()
        yield source, landed
    finally:
        source.kill()
        landed.close()


def run_flow(
    platform: Platform, rate: float, seconds: float, *, canaries: float = 0.0, pool: int = 200_000
) -> Flow:
    """Produce at a rate and watch landing and canaries.

    Args:
        platform: with broker, warehouse and landing up, and nothing else in the events topic.
        rate: events a second.
        seconds: how long; the first fifth, 15 s at most, settles and is not sampled.
        canaries: canaries a second.
        pool: different events that are simulated.

    Raises:
        BenchError: the producer failed, or landing does not end.
    """
    settings = platform.settings
    flow = Flow(rate)
    pace = Pace(
        settings.kafka.servers,
        settings.kafka.topics.events,
        rate,
        seconds,
        pool,
        canaries=canaries,
        prefix=f"canary{time.time_ns() // 1_000_000}",
    )
    settle = min(MOST_SETTLE_SECONDS, seconds * SETTLE_SHARE)
    with producing(platform, pace) as (source, landed):
        meter = Meter.of(platform, SERVICES, producer=source.process.pid)
        with _lookout(settings, source, canaries) as lookout:
            while (elapsed := time.time() - source.begun) < seconds:
                if elapsed >= settle:
                    flow.samples.append(Sample(elapsed, source.due(), landed.read()))
                time.sleep(0.5)
            used = meter.used()
            source.end()
            flow.sent = source.acknowledged
            await_landed(landed, flow.sent)
            if lookout:
                lookout.finish(lambda: _unseen(source, lookout))
                flow.unseen = _unseen(source, lookout)
                flow.latencies = _latencies(source, lookout, settle)
    flow.cpu = {name: round(s * 1e6 / max(1, flow.sent), 3) for name, s in used.items()}
    return flow


@contextmanager
def _lookout(settings: Settings, source: Producing, canaries: float) -> Iterator[Lookout | None]:
    if not canaries:
        yield None
        return
    lookout = Lookout(settings, source)
    try:
        yield lookout
    finally:
        lookout.stop()


def await_landed(landed: LandedCount, expected: int, patience: float = 120.0) -> None:
    """Wait until so many events of the flow are landed.

    Raises:
        BenchError: landing stands still.
    """
    last, since = -1, time.monotonic()
    while (now := landed.try_read() or 0) < expected:
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise BenchError(f"landing stands still at {now} of {expected} events")
        time.sleep(0.2)


def await_caught_up(settings: Settings, patience: float = 120.0) -> None:
    """Wait until everything that is in the events topic is landed.

    Raises:
        BenchError: landing stands still.
    """
    topic = settings.kafka.topics.events
    end = BulkProducer(settings.kafka.servers).end_offsets([topic])[topic]
    landed = LandedCount(settings, from_start=True)
    try:
        await_landed(landed, end, patience)
    finally:
        landed.close()


def _unseen(source: Producing, lookout: Lookout) -> int:
    return sum(len(due) - len(lookout.seen[name]) for name, due in source.canaries.items())


def _latencies(source: Producing, lookout: Lookout, settle: float) -> list[float]:
    """Of canaries that were due after the flow had settled."""
    return [
        seen - due
        for name, dues in source.canaries.items()
        for due, seen in zip(dues, lookout.seen[name], strict=False)
        if due >= source.begun + settle
    ]
