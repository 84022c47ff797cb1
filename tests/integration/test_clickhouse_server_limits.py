"""What the warehouse server does when there is too much: queue, limits, leaving clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.data.warehouse_server import READER, WarehouseServer

ENDLESS = "SELECT sum(cityHash64(number, {n:UInt8})) FROM numbers(1000000000000)"
RUNNING = (
    "SELECT count() FROM system.processes WHERE query LIKE '%1000000000000%' "
    "AND query NOT LIKE '%processes%'"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseServer]:
    server = WarehouseServer(
        tmp_path_factory.mktemp("warehouse"),
        max_concurrent_queries=3,
        max_queued_queries=4,
        queue_timeout_seconds=2,
        max_execution_seconds=20,
        max_memory_bytes=1024**3,
    ).start()
    server.scalar("CREATE DATABASE marts")
    yield server
    server.close()


def test_query_is_stopped_when_its_client_leaves(server: WarehouseServer) -> None:
    with pytest.raises(Exception, match="timed out"):
        server.ask(ENDLESS, param_n=1, timeout=1.0, query_id="gone-1")
    assert server.wait_for(RUNNING, "0") == "0"
    server.scalar("SYSTEM FLUSH LOGS")
    assert (
        server.wait_for(
            "SELECT exception_code FROM system.query_log WHERE query_id = 'gone-1' "
            "AND type = 'ExceptionWhileProcessing'",
            "394",
        )
        == "394"
    )


def test_stream_is_stopped_when_its_client_stops_reading_and_leaves(
    server: WarehouseServer,
) -> None:
    answer = server.ask("SELECT number FROM numbers(1000000000000)", preload=False)
    assert answer.read(100)
    assert server.scalar(RUNNING) == "1"
    answer.release_conn()
    answer.close()
    assert server.wait_for(RUNNING, "0") == "0"


def test_insert_goes_on_when_its_client_leaves(server: WarehouseServer) -> None:
    server.scalar("CREATE TABLE marts.slow (n UInt64) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(Exception, match="timed out"):
        server.ask(
            "INSERT INTO marts.slow SELECT number + 0 * sleepEachRow(0.2) FROM numbers(10)",
            timeout=0.5,
            max_block_size=1,
        )
    assert server.wait_for("SELECT count() FROM marts.slow", "10") == "10"


def test_overload_is_refused_with_503_when_the_queue_is_full(server: WarehouseServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(server.ask, "SELECT sleep(1.5)", user=READER, query_id=f"o-{n}")
            for n in range(12)
        ]
        answers = [job.result() for job in jobs]
    refused = [answer for answer in answers if answer.status == 503]
    assert refused
    assert all(answer.status in (200, 503) for answer in answers)
    assert {answer.headers["X-ClickHouse-Exception-Code"] for answer in refused} == {"202"}
    assert all(b"TOO_MANY_SIMULTANEOUS_QUERIES" in answer.data for answer in refused)
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)
    assert sum(answer.status == 200 for answer in answers) >= 3
    assert server.ask("SELECT 1").status == 200


def test_no_more_than_the_limit_run_when_many_ask(server: WarehouseServer) -> None:
    seen: list[int] = []
    stop = threading.Event()

    def ask(number: int) -> int:
        return int(server.ask("SELECT sleep(0.3)", query_id=f"m-{number}").status)

    def watch() -> None:
        while not stop.is_set():
            answer = server.ask(
                "SELECT count() FROM system.processes WHERE query LIKE '%sleep(0.3)%' "
                "AND query NOT LIKE '%processes%'"
            )
            if answer.status == 200:
                seen.append(int(answer.data))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(ask, range(18)))
    stop.set()
    watcher.join()
    assert set(statuses) == {200}
    assert 1 <= max(seen) <= 3


def test_queued_query_is_forgotten_when_its_client_leaves(server: WarehouseServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(server.ask, "SELECT sleep(1.2)", query_id=f"b-{n}") for n in range(3)]
        time.sleep(0.4)
        with pytest.raises(Exception, match="timed out"):
            server.ask("SELECT 'never run'", timeout=0.3, query_id="queued-1")
        assert [job.result().status for job in busy] == [200, 200, 200]
    server.scalar("SYSTEM FLUSH LOGS")
    assert server.scalar("SELECT count() FROM system.query_log WHERE query_id = 'queued-1'") == "0"


def test_query_is_ended_when_it_takes_too_long(server: WarehouseServer) -> None:
    answer = server.ask(ENDLESS, param_n=2, max_execution_time=1)
    assert answer.status == 408
    assert answer.headers["X-ClickHouse-Exception-Code"] == "159"


def test_reader_keeps_the_limit_when_it_asks_for_more_time(server: WarehouseServer) -> None:
    asked = "SELECT getSetting('max_execution_time')"
    assert server.ask(asked, user=READER, max_execution_time=0).data == b"20\n"
    assert server.ask(asked, user=READER, max_execution_time=9999).data == b"20\n"
    assert server.ask(asked, user=READER, max_execution_time=5).data == b"5\n"
    assert server.ask(asked, max_execution_time=9999).data == b"9999\n"


def test_query_is_refused_memory_when_it_wants_more_than_the_limit(
    server: WarehouseServer,
) -> None:
    answer = server.ask(
        "SELECT length(groupArray(toString(number) || repeat('x', 100))) FROM numbers(40000000)",
        max_bytes_before_external_group_by=0,
    )
    assert answer.status == 500
    assert answer.headers["X-ClickHouse-Exception-Code"] == "241"
    assert server.scalar("SELECT 1") == "1"


def test_session_is_locked_when_two_queries_share_it(server: WarehouseServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.ask, "SELECT sleep(1)", session_id="one")
        time.sleep(0.4)
        second = server.ask("SELECT 1", session_id="one")
        assert second.headers["X-ClickHouse-Exception-Code"] == "373"
        assert first.result().status == 200
    assert server.ask("SELECT 1", session_id="one").status == 200


def test_session_is_forgotten_when_its_time_is_over(server: WarehouseServer) -> None:
    session = {"session_id": "short", "session_timeout": 1}
    assert server.ask("CREATE TEMPORARY TABLE held (a UInt8)", **session).status == 200
    assert server.ask("SELECT count() FROM held", **session).data == b"0\n"
    time.sleep(1.3)
    assert server.ask("SELECT 1", session_check=1, **session).status == 500


def test_query_id_is_refused_when_it_runs_already_and_kill_finds_it(
    server: WarehouseServer,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.ask, ENDLESS, param_n=3, query_id="twice")
        assert server.wait_for(RUNNING, "1") == "1"
        second = server.ask("SELECT 1", query_id="twice")
        assert second.headers["X-ClickHouse-Exception-Code"] == "216"
        assert server.ask("KILL QUERY WHERE query_id = 'twice' ASYNC").status == 200
        assert first.result().headers["X-ClickHouse-Exception-Code"] == "394"
