"""A producer at a set rate, in a process of its own: `python -m herald.bench.pacer '<json>'`.

Events are simulated once and sent again and again, each time with an id and times of their own, as
generating them anew would take more of the shared cores than landing them. The schedule is open: an
event is due at its time whether or not those before it were taken, so a pause is made up for.

Canaries are events of campaigns `canary-<n>`, each campaign in one partition and so in order: the
first N are visible where N are counted.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import numpy as np
import polars as pl

from herald.settings import Topics
from herald.simulator.encode import HEAD, heads, uuid7
from herald.simulator.options import SimulationOptions
from herald.simulator.stream import Simulation
from herald.sources.sinks import EVENTS, KafkaSink

TICK_SECONDS = 0.02
MOST_A_TICK = 20_000
HEAD_BYTES = len(HEAD) + 36 + 2 * 24


@dataclass(frozen=True, slots=True)
class Pace:
    """What is produced. Travels to the process as JSON.

    Attributes:
        servers, topic: where to.
        rate: events a second, canaries not counted.
        seconds: how long; SIGTERM ends it before.
        pool: how many different events are simulated.
        seed: of the simulation.
        canaries: canaries a second.
        campaigns: over how many campaigns they are spread.
        prefix: first part of the names of those campaigns.
    """

    servers: str
    topic: str
    rate: float
    seconds: float
    pool: int = 200_000
    seed: int = 3
    canaries: float = 0.0
    campaigns: int = 4
    prefix: str = "canary"


@dataclass(frozen=True, slots=True)
class Pool:
    """Simulated events without their heads, and the malformed ones as they are."""

    keys: list[Any]
    rests: pl.Series
    broken: list[bytes]


def simulate(events: int, seed: int) -> Pool:
    """Simulate events and take their heads off.

    The simulation lies in the past and its faults are spread over it, so that the share of broken
    events is kept.
    """
    simulation = Simulation(SimulationOptions(events=events, seed=seed, end=datetime.now(UTC)))
    keys: list[Any] = []
    rests: list[str] = []
    broken: list[bytes] = []
    for batch in simulation.batches():
        for key, value in zip(batch.keys.to_list(), batch.values.to_list(), strict=True):
            if _has_head(value):
                keys.append(key)
                rests.append(value[HEAD_BYTES:].decode())
            else:
                broken.append(value)
    return Pool(keys, pl.Series(rests, dtype=pl.String), broken)


def _has_head(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    empty = value[:13] + value[49:66] + value[90:107] + value[131:133]
    return len(value) > HEAD_BYTES and empty == HEAD.encode()


class Pacer:
    """Sends what is due, and says once a second how far it is."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.pool = simulate(pace.pool, pace.seed)
        self.sent = 0
        self._canaries = 0
        self._rng = np.random.default_rng(pace.seed)
        self._share_broken = len(self.pool.broken) / max(1, len(self.pool.keys))
        self._broken = 0
        self._stopping = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """End early, with everything sent acknowledged."""
        self._stopping = True

    def run(self) -> None:
        """Produce until the time is over."""
        pace = self.pace
        topics = Topics(events=pace.topic)
        with KafkaSink(pace.servers, topics) as sink:
            begun = time.time()
            _say(begun=begun, rate=pace.rate)
            said = begun
            while not self._stopping and (elapsed := time.time() - begun) < pace.seconds:
                due = int(elapsed * pace.rate)
                self._send(sink, min(due - self.sent, MOST_A_TICK))
                self._send_canaries(sink, begun, elapsed)
                if time.time() - said >= 1:
                    said = time.time()
                    self._report(sink)
                if due - self.sent < MOST_A_TICK:
                    time.sleep(TICK_SECONDS)
            sink.finish()
            self._report(sink)

    def _send(self, sink: KafkaSink, count: int) -> None:
        if count <= 0:
            return
        size = len(self.pool.keys)
        places = (self.sent + np.arange(count)) % size
        now = np.full(count, int(time.time() * 1_000), dtype=np.int64)
        values = (
            pl.select(pl.concat_str(heads(now, now, self._rng), self.pool.rests.gather(places)))
            .to_series()
            .cast(pl.Binary)
            .to_list()
        )
        keys = [self.pool.keys[place] for place in places.tolist()]
        before = int(self.sent * self._share_broken)
        for n in range(before, int((self.sent + count) * self._share_broken)):
            values[-1 - (n - before)] = self.pool.broken[n % len(self.pool.broken)]
        sink.write(EVENTS, list(zip(keys, values, strict=True)))
        self.sent += count

    def _send_canaries(self, sink: KafkaSink, begun: float, elapsed: float) -> None:
        """A canary carries the time it was due at: a late producer makes late events."""
        while self._canaries < int(elapsed * self.pace.canaries):
            number, self._canaries = self._canaries, self._canaries + 1
            due = begun + (number + 1) / self.pace.canaries
            campaign = f"{self.pace.prefix}-{number % self.pace.campaigns}"
            sink.write(EVENTS, [(campaign, canary(campaign, due, self._rng))])
            _say(canary=number // self.pace.campaigns, campaign=campaign, at=due)

    def _report(self, sink: KafkaSink) -> None:
        _say(
            at=time.time(),
            sent=self.sent + self._canaries,
            acknowledged=sink.counts().get(self.pace.topic, 0),
            cpu_s=time.process_time(),
        )


def canary(campaign: str, at: float, rng: np.random.Generator) -> bytes:
    """One sent push of a campaign, due at a Unix time in s."""
    ms = int(at * 1_000)
    random = rng.integers(0, 2**64, size=(1, 2), dtype=np.uint64)
    stamp = datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds")
    record = {
        "event_id": uuid7(np.array([ms]), random).tobytes().decode(),
        "occurred_at": stamp,
        "ingested_at": stamp,
        "source": "canary",
        "schema_version": "1.0",
        "tenant_id": "acme",
        "event_type": "push.sent",
        "channel": "push",
        "campaign_id": campaign,
        "message_id": f"{campaign}-{ms}",
        "user_id": campaign,
        "platform": "ios",
        "provider": "apns",
        "country": "DE",
    }
    return json.dumps(record, separators=(",", ":")).encode()


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def encode(pace: Pace) -> str:
    """A pace as the argument of the process."""
    return json.dumps(asdict(pace))


def main() -> None:
    """Entry point of the process."""
    pacer = Pacer(Pace(**json.loads(sys.argv[1])))
    signal.signal(signal.SIGTERM, pacer.stop)
    pacer.run()


if __name__ == "__main__":
    main()
