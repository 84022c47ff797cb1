"""Parts of the chaos harness that need no platform."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest

from herald.chaos.disk import filled, small_disk, why_not
from herald.chaos.fuzz import fuzzed_events, mutate_bytes
from herald.chaos.producer import event
from herald.chaos.proxy import Fault, FaultProxy
from herald.chaos.run import Blow, Outcome, draw, record, table
from herald.chaos.scenarios import CLOCK, all_scenarios
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VICTIMS = {"driver", "worker", "warehouse", "kafka", "valkey"}


def test_series_is_the_same_when_the_seed_is_and_has_every_victim_and_fault() -> None:
    scenarios = all_scenarios()
    names = [s.name for s in draw(scenarios, 200, 1)]
    assert names == [s.name for s in draw(scenarios, 200, 1)]
    assert names != [s.name for s in draw(scenarios, 200, 2)]
    drawn = draw(scenarios, 200, 1)
    assert sum(s.is_kill for s in drawn) == 200
    assert {s.victim for s in drawn if s.is_kill} == VICTIMS
    assert {s.name for s in drawn} == {s.name for s in scenarios}


def test_short_series_has_every_fault_once_when_few_kills_are_asked_for() -> None:
    drawn = draw(all_scenarios(), 3, 1)
    others = [s.name for s in drawn if not s.is_kill]
    assert len(drawn) - len(others) == 3
    assert sorted(others) == sorted(s.name for s in all_scenarios() if not s.is_kill)


def test_events_are_a_function_of_seed_number_and_time() -> None:
    assert event(1, 5, AT) == event(1, 5, AT) != event(2, 5, AT)
    records = [json.loads(event(1, n, AT)) for n in range(3_000)]
    assert [r["message_id"] for r in records] == [f"m{n}" for n in range(3_000)]
    broken = sum(r["event_type"] in {7, "pigeon.released"} for r in records)
    assert 10 < broken < 60
    ages = [AT - datetime.fromisoformat(r["occurred_at"]) for r in records]
    assert any(abs(age - timedelta(hours=2)) < timedelta(seconds=2) for age in ages)


def test_fuzz_mutates_one_in_a_hundred_the_same_way_when_the_seed_is_the_same() -> None:
    first = [v for v, mutated in fuzzed_events(1_000, 3) if mutated]
    assert len(first) == 10
    assert len(set(first)) == 10
    rng = [random.Random(1), random.Random(1)]
    assert [mutate_bytes(b'{"a":1}', rng[0]) for _ in range(50)] == [
        mutate_bytes(b'{"a":1}', rng[1]) for _ in range(50)
    ]


def test_record_sums_kills_and_faults_when_both_were_run() -> None:
    blows = [
        Blow(1, "driver", "random", 0, 0, 0, 9.0),
        Blow(2, "driver", "random", 1, 0, 0, 11.0),
        Blow(3, "warehouse", "slow", 0, 2, 3, 1.0, is_kill=False),
    ]
    found = record(Outcome(blows, 7, {}))
    assert [b["n"] for b in found["kills"]] == [1, 2]
    assert [b["moment"] for b in found["faults"]] == ["slow"]
    assert found["summary"] == {
        "kills": 2,
        "faults": 1,
        "lost": 1,
        "duplicated": 2,
        "rollup_difference": 3,
        "control_duplicates": 7,
    }
    [driver, _] = table(blows)
    assert (driver["times"], driver["lost"], driver["recovery_max_s"]) == (2, 1, 11.0)


class Warehouse:
    """Answers every request and remembers the statements."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                seen.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    warehouse = Warehouse()
    yield warehouse
    warehouse.server.shutdown()
    warehouse.server.server_close()


@pytest.fixture
def proxy(warehouse: Warehouse) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", warehouse.server.server_address[1]) as proxy:
        yield proxy


def post(proxy: FaultProxy, table: str, body: bytes = b"rows") -> tuple[int, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        connection.request("POST", f"/?query={quote(f'INSERT INTO {table} (a) FORMAT X')}", body)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers.get("X-ClickHouse-Exception-Code")
    finally:
        connection.close()


@pytest.mark.parametrize(("moment", "written"), [("before", 0), ("after", 1)])
def test_proxy_drops_the_answer_of_one_insert_when_armed(
    proxy: FaultProxy, warehouse: Warehouse, moment: str, written: int
) -> None:
    fault = proxy.arm(Fault("raw.events", moment, outcome="drop"))
    assert post(proxy, "raw.other") == (200, None)
    with pytest.raises((http.client.HTTPException, OSError)):
        post(proxy, "raw.events")
    assert fault.fired.is_set()
    assert len(warehouse.seen) == 1 + written
    assert post(proxy, "raw.events") == (200, None)


def test_proxy_gives_an_error_when_asked_and_waits_when_nothing_was_struck(
    proxy: FaultProxy, warehouse: Warehouse
) -> None:
    blows = iter([False, True])
    fault = proxy.arm(
        Fault("", "before", lambda _port: next(blows), outcome="error", status=500, code=252)
    )
    assert post(proxy, "raw.events") == (200, None)
    assert not fault.fired.is_set()
    assert post(proxy, "raw.events") == (500, "252")
    proxy.disarm()
    assert post(proxy, "raw.events") == (200, None)
    assert len(warehouse.seen) == 2


@pytest.mark.parametrize(("code", "times"), [(0, 2), (243, 3), (252, 1)])
def test_landing_tries_again_when_the_proxy_gives_errors_that_pass(
    proxy: FaultProxy, warehouse: Warehouse, code: int, times: int
) -> None:
    proxy.arm(Fault("raw.events", "before", outcome="error", times=times, code=code))
    pauses: list[float] = []
    sink = ClickHouseSink(
        Address("127.0.0.1", proxy.port, False, "writer", ""), sleep=pauses.append
    )
    sink.insert("raw.events", pa.table({"a": [1]}), token="t")
    sink.close()
    assert len(pauses) == times
    assert len(warehouse.seen) == 1


def test_proxy_acts_beside_the_insert_when_the_moment_is_during(proxy: FaultProxy) -> None:
    acted = threading.Event()

    def act(port: int) -> bool:
        acted.set()
        return port > 0

    fault = proxy.arm(Fault("raw.events", "during", act))
    assert post(proxy, "raw.events") == (200, None)
    assert acted.is_set()
    assert fault.struck == 1


def test_proxy_closes_the_connection_when_the_warehouse_is_away(
    free_port: Callable[[], int],
) -> None:
    with (
        FaultProxy("127.0.0.1", free_port()) as proxy,
        pytest.raises((http.client.HTTPException, OSError)),
    ):
        post(proxy, "raw.events")


def test_disk_is_full_when_filled_and_free_again_afterwards(tmp_path: Path) -> None:
    with small_disk(tmp_path, 32) as place:
        if place is None:  # no right to mount here: said, not hidden
            assert why_not() or not (tmp_path / "clickhouse").exists()
            return
        file = tmp_path / "clickhouse" / "part"
        with filled(place), pytest.raises(OSError, match="No space left"):
            file.write_bytes(bytes(1_000_000))
        assert file.write_bytes(bytes(1_000_000)) == 1_000_000
    assert not list(place.iterdir())


def test_clock_of_a_process_jumps_when_the_file_says_so(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("-7200")
    code = "import time; print(time.time(), time.time_ns() // 10**9)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(CLOCK), "CHAOS_CLOCK": str(clock)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, whole = map(float, done.stdout.split())
    assert abs(seconds - whole) <= 1
    assert -7_260 < seconds - time.time() < -7_190
