"""Parts of the measurements that need no service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from herald.bench.pacer import canary, simulate
from herald.bench.stage import BenchError
from herald.bench.suite import ROWS_OF, chosen_steps
from herald.bench.usage import Meter, cpu_seconds
from herald.bench.watch import latencies
from herald.bench.watchers import Seen
from herald.bench.websocket import WebSocketError, open_websocket
from herald.contract.events import Event
from spark_jobs.bench.cost import FIELDS, field_names, full_event

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_steps_are_all_when_none_is_named() -> None:
    assert chosen_steps([]) == list(ROWS_OF)


def test_steps_bring_what_they_are_compared_with_when_named_by_a_row() -> None:
    assert chosen_steps(["landing_over_from_json", "visible"]) == [
        "landing",
        "from_json",
        "visible",
    ]


def test_step_is_refused_when_it_does_not_exist() -> None:
    with pytest.raises(BenchError, match="--only speed: there are landing"):
        chosen_steps(["speed"])


def test_pool_keeps_heads_apart_and_broken_events_whole_when_simulated() -> None:
    pool = simulate(20_000, seed=1)
    assert len(pool.keys) == len(pool.rests)
    assert len(pool.keys) + len(pool.broken) == 20_000
    assert 0 < len(pool.broken) < 200
    head = (
        '{"event_id":"01920000-0000-7000-8000-000000000000","occurred_at":"2026-01-01T00:00:00Z",'
    )
    Event.model_validate_json(head + pool.rests[0])


def test_canary_is_a_valid_event_when_judged_by_the_contract() -> None:
    event = Event.model_validate_json(
        canary("canary-1", 1_790_000_000.25, np.random.default_rng(1))
    )
    assert (event.campaign_id, event.event_type) == ("canary-1", "push.sent")
    assert event.occurred_at.timestamp() == pytest.approx(1_790_000_000.25)


@pytest.mark.parametrize("count", FIELDS)
def test_event_has_so_many_fields_and_is_valid_when_built_for_cost(count: int) -> None:
    stamp = "2026-01-01T00:00:00.000Z"
    value = full_event(50, field_names(count), "01920000-0000-7000-8000-000000000000", stamp)
    assert len(json.loads(value)) == count
    Event.model_validate_json(value)


def test_latency_is_from_due_to_the_first_count_that_holds_it_when_seen() -> None:
    canaries = {"a": [10.0, 11.0, 12.0], "b": [10.5]}
    seen = [
        {"campaign": "a", "counts": [(10.8, 1), (12.9, 3)]},
        {"campaign": "a", "counts": [(11.5, 2)]},
        {"campaign": "", "counts": []},
    ]
    took, missing = latencies(canaries, seen, 10.0, 20.0)
    assert took == pytest.approx([0.8, 1.9, 0.9, 1.5, 0.5])
    assert missing == 1  # the third canary at the second client
    assert latencies(canaries, seen, 11.5, 20.0) == ([pytest.approx(0.9)], 1)


def test_client_notes_a_count_when_it_grew() -> None:
    seen = Seen("canary-1")
    page = '{"funnel": [{"stage": "targeted", "value": 9}, {"stage": "sent", "value": %s}]}'
    for at, count in enumerate(["null", "3", "3.0", "5"]):
        seen.take((page % count).encode(), float(at))
    assert seen.counts == [(1.0, 3), (3.0, 5)]
    assert seen.messages == 4


def test_cpu_of_a_process_is_counted_with_its_children_when_it_works() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    meter = Meter({"it": child.pid})
    deadline = time.monotonic() + 30
    while meter.used()["it"] < 0.3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert meter.used()["it"] >= 0.3
    child.communicate(b"\n")
    assert cpu_seconds(child.pid) == 0
    assert cpu_seconds(os.getpid()) > 0


async def _served(handler: Handler) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_messages_are_whole_when_the_server_cuts_them_and_pings() -> None:
    pongs: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        writer.write(b"\x01\x03abc" + b"\x89\x02hi" + b"\x80\x03def")
        writer.write(b"\x81\x7e" + (300).to_bytes(2, "big") + b"x" * 300)
        writer.write(b"\x81\x7f" + (70_000).to_bytes(8, "big") + b"y" * 70_000)
        writer.write(b"\x88\x02\x03\xe8")
        await writer.drain()
        frame = await reader.readexactly(8)  # a masked pong with two bytes
        plain = bytes(byte ^ frame[2 + i % 4] for i, byte in enumerate(frame[6:]))
        pongs.put_nowait((frame[0], plain))

    server, port = await _served(handler)
    connection = await open_websocket("127.0.0.1", port, "/ws", {})
    got = [message async for message in connection.messages()]
    pong = await asyncio.wait_for(pongs.get(), 10)
    server.close()
    assert [(m[:3], len(m)) for m in got] == [(b"abc", 6), (b"xxx", 300), (b"yyy", 70_000)]
    assert pong == (0x8A, b"hi")


async def test_connection_is_refused_when_the_server_says_no() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
        await writer.drain()

    server, port = await _served(handler)
    with pytest.raises(WebSocketError, match="401"):
        await open_websocket("127.0.0.1", port, "/ws", {})
    server.close()


async def test_reading_ends_with_an_error_when_a_frame_is_too_large() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        writer.write(b"\x81\x7f" + (1 << 40).to_bytes(8, "big"))
        await writer.drain()

    server, port = await _served(handler)
    connection = await open_websocket("127.0.0.1", port, "/ws", {})
    with pytest.raises(WebSocketError, match="bytes"):
        [message async for message in connection.messages()]
    await connection.close()
    server.close()
