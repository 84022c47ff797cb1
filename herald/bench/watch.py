"""`live_clients` and `live_p99_s`: the live page before a thousand real clients.

Canaries tell the latency: a client whose page shows N sent messages of a canary campaign has the
first N. What is measured is from when a canary is due at the producer until the client has read the
message that counts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from herald.bench.flow import SERVICES, Producing, await_landed, producing
from herald.bench.pacer import Pace
from herald.bench.rates import Measured
from herald.bench.rows import row
from herald.bench.stage import BenchError
from herald.bench.stats import percentile
from herald.bench.usage import Meter
from herald.bench.watchers import Watch
from herald.settings import Settings
from infra.local.platform import Platform

LIVE_CLIENTS = 1_000
LIVE_SECONDS = 60.0
PROCESSES = 2
CAMPAIGNS = 9
CANARIES_PER_S = 9.0
CONNECT_SECONDS = 120.0
DRAIN_SECONDS = 5.0
SETTLE_SHARE = 0.2
SOCKET = "/v1/live/ws"


def measure_live(
    platform: Platform,
    rate: float,
    seconds: float,
    *,
    clients: int = LIVE_CLIENTS,
    lead_seconds: float = CONNECT_SECONDS,
) -> Measured:
    """Rows of the live page.

    One client in ten shows the whole tenant, which costs the server most and is not timed; the
    others show one of nine campaigns of canaries each.

    Args:
        platform: with landing and API up.
        rate: events/s beside the canaries.
        seconds: that clients watch, from when all are connected.
        clients: how many.
        lead_seconds: that they may take to connect; the flow lasts so much longer at most.

    Raises:
        BenchError: no client could connect, or nothing was seen.
    """
    settings = platform.settings
    pace = Pace(
        settings.kafka.servers,
        settings.kafka.topics.events,
        rate,
        lead_seconds + seconds + DRAIN_SECONDS,
        canaries=CANARIES_PER_S,
        campaigns=CAMPAIGNS,
        prefix=f"live{time.time_ns() // 1_000_000}",
    )
    campaigns = ["", *(f"{pace.prefix}-{n}" for n in range(CAMPAIGNS))]
    with producing(platform, pace) as (source, landed):
        meter = Meter.of(platform, (*SERVICES, "api"), producer=source.process.pid)
        with _watchers(settings, campaigns, clients, pace.seconds) as processes:
            ready = [json.loads(_line(process)) for process in processes]
            begun = time.time()
            connected = sum(one["connected"] for one in ready)
            if not connected:
                raise BenchError(f"no client could connect: {ready[0]['refused']}")
            time.sleep(seconds + DRAIN_SECONDS)
            for process in processes:
                process.terminate()
            seen = [json.loads(line) for process in processes for line in _rest(process)]
            used = meter.used()
        source.end()
        await_landed(landed, source.acknowledged)
    found = latencies(source.canaries, seen, begun + seconds * SETTLE_SHARE, begun + seconds)
    return _measured(found, seen, connected, clients, rate, source, used)


def latencies(
    canaries: Mapping[str, Sequence[float]],
    seen: Sequence[Mapping[str, Any]],
    first: float,
    last: float,
) -> tuple[list[float], int]:
    """Seconds of every canary at every client of its campaign, and how many never came.

    Args:
        canaries: due times of each campaign's canaries, in order (Unix, s).
        seen: of each client its `campaign` and `counts`: pairs of a time and a count.
        first, last: canaries due between these are looked at.
    """
    took: list[float] = []
    missing = 0
    for client in seen:
        counts = iter(client["counts"])
        at, count = 0.0, 0
        for number, due in enumerate(canaries.get(client["campaign"], ()), 1):
            while count < number and (following := next(counts, None)) is not None:
                at, count = following
            if not first <= due < last:
                continue
            if count < number:
                missing += 1
            else:
                took.append(at - due)
    return took, missing


def _measured(
    found: tuple[list[float], int],
    seen: Sequence[Mapping[str, Any]],
    connected: int,
    clients: int,
    rate: float,
    source: Producing,
    used: Mapping[str, float],
) -> Measured:
    took, missing = found
    if not took:
        messages = sum(client["messages"] for client in seen)
        counted = sum(bool(client["counts"]) for client in seen)
        raise BenchError(
            f"no client saw a canary of the measured seconds: {connected} clients read {messages} "
            f"messages, {counted} of them counted an earlier canary, {missing} canaries missing; "
            "landing or the live page is seconds behind, or the run too short"
        )
    dropped = sum(bool(client["dropped"]) for client in seen)
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    messages = sum(client["messages"] for client in seen)
    detail = (
        f"{connected} of {clients} WebSocket clients in {PROCESSES} processes on the same cores, "
        f"{dropped} dropped, {messages} messages, at {rate:.0f} events/s; from when a canary is "
        f"due at the producer until a client has read a page that counts it: p50 {p50:.2f} s, "
        f"p99 {p99:.2f} s, longest {max(took):.2f} s of {len(took)}, {missing} never counted"
    )
    valid = not missing and rate >= 50_000
    return Measured(
        [
            row("live_clients", connected - dropped, detail, valid=p99 < 2 and valid),
            row("live_p99_s", p99, detail, valid=valid and connected - dropped >= LIVE_CLIENTS),
        ],
        {
            "live": [
                {
                    "clients": connected,
                    "rate": round(rate),
                    "p50_s": round(p50, 3),
                    "p99_s": round(p99, 3),
                    "max_s": round(max(took), 3),
                    "dropped": dropped,
                    "messages": messages,
                    "bytes": sum(client["received_bytes"] for client in seen),
                    **{
                        f"cpu_us_{name}": round(s * 1e6 / max(1, source.acknowledged), 3)
                        for name, s in used.items()
                    },
                }
            ]
        },
    )


@contextmanager
def _watchers(
    settings: Settings, campaigns: list[str], clients: int, seconds: float
) -> Iterator[list[subprocess.Popen[bytes]]]:
    shares = [clients // PROCESSES + (n < clients % PROCESSES) for n in range(PROCESSES)]
    processes = []
    for share in shares:
        watch = Watch(
            settings.api.host,
            settings.api.port,
            SOCKET,
            settings.api.password.get_secret_value(),
            "acme",
            campaigns,
            share,
            seconds,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "herald.bench.watchers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(watch)).encode() + b"\n")
        process.stdin.close()
        processes.append(process)
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError(f"a process of clients ended with {process.wait()}")
    return line


def _rest(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout is not None
    yield from process.stdout
