"""The warehouse server through stops, kills and retries."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.data.warehouse_server import WarehouseServer

ROWS = 20_000
WINDOW = "SETTINGS non_replicated_deduplication_window = 1000"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WarehouseServer]:
    server = WarehouseServer(tmp_path)
    yield server
    server.close()


def _create(server: WarehouseServer) -> None:
    for sql in (
        "CREATE DATABASE raw",
        f"CREATE TABLE raw.events (batch UInt32, n UInt64) ENGINE = MergeTree ORDER BY n {WINDOW}",
        "CREATE TABLE raw.totals (batch UInt32, rows UInt64) ENGINE = SummingMergeTree "
        f"ORDER BY batch {WINDOW}",
        "CREATE MATERIALIZED VIEW raw.to_totals TO raw.totals AS "
        "SELECT batch, count() AS rows FROM raw.events GROUP BY batch",
    ):
        server.scalar(sql)


def _insert(server: WarehouseServer, batch: int) -> int:
    rows = b"".join(b"%d\t%d\n" % (batch, batch * ROWS + n) for n in range(ROWS))
    answer = server.ask(
        rows,
        query="INSERT INTO raw.events FORMAT TSV",
        insert_deduplication_token=f"range-{batch}",
        timeout=20,
    )
    return int(answer.status)


def test_nothing_is_lost_or_doubled_when_killed_during_inserts_and_replayed(
    server: WarehouseServer,
) -> None:
    server.start()
    _create(server)
    acknowledged: list[int] = []
    batch = 0
    for kill in range(3):
        first = batch

        def insert_until_killed(start: int = first) -> None:
            number = start
            try:
                while _insert(server, number) == 200:
                    acknowledged.append(number)
                    number += 1
            except (OSError, urllib3.exceptions.HTTPError):
                return

        writer = threading.Thread(target=insert_until_killed)
        writer.start()
        deadline = time.monotonic() + 20
        while len([n for n in acknowledged if n >= first]) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.005 * kill)
        server.kill()
        writer.join()
        assert acknowledged
        server.start()
        # the two last acknowledged and the one in flight: what a client in doubt sends again
        batch = max(acknowledged) + 2
        for again in (batch - 3, batch - 2, batch - 1):
            assert _insert(server, again) == 200
        acknowledged.append(batch - 1)
    wanted = f"{batch * ROWS}\t{batch * ROWS}\t{batch}"
    counts = "SELECT count(), uniqExact(n), uniqExact(batch) FROM raw.events"
    assert server.scalar(counts) == wanted
    assert server.scalar("SELECT sum(rows), max(rows) FROM raw.totals FINAL") == (
        f"{batch * ROWS}\t{ROWS}"
    )


def test_retry_is_dropped_when_token_is_the_same_and_kept_when_it_is_not(
    server: WarehouseServer,
) -> None:
    server.start()
    _create(server)
    assert [_insert(server, 1), _insert(server, 1), _insert(server, 2)] == [200, 200, 200]
    assert server.scalar("SELECT count() FROM raw.events") == str(2 * ROWS)


def test_stop_is_clean_when_queries_run(server: WarehouseServer) -> None:
    server.start()
    _create(server)
    assert _insert(server, 0) == 200
    caught: list[BaseException] = []

    def endless() -> None:
        try:
            server.ask("SELECT sum(cityHash64(number)) FROM numbers(1000000000000)")
        except (OSError, urllib3.exceptions.HTTPError) as error:
            caught.append(error)

    thread = threading.Thread(target=endless)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 20
    thread.join()
    server.start()
    assert server.scalar("SELECT count() FROM raw.events") == str(ROWS)
    logged = "SELECT count() > 0 FROM system.query_log WHERE query LIKE 'INSERT INTO raw.events%'"
    assert server.scalar(logged) == "1"


def test_query_log_starts_anew_when_the_kept_one_has_other_columns(
    server: WarehouseServer,
) -> None:
    server.start()
    server.scalar("CREATE DATABASE marts")
    server.scalar("CREATE VIEW marts.log AS SELECT count() AS queries FROM system.query_log")
    server.scalar("SYSTEM FLUSH LOGS")
    # what a log of another engine version looks like
    server.scalar("ALTER TABLE server_logs.query_log DROP COLUMN thread_ids")
    server.kill()
    server.start()
    old = "SELECT count() FROM system.tables WHERE name LIKE 'query_log_until_%'"
    assert server.scalar(old) == "1"
    server.scalar("SYSTEM FLUSH LOGS")
    assert int(server.scalar("SELECT queries FROM marts.log")) > 0


def test_old_row_files_are_gone_when_the_server_starts(
    server: WarehouseServer, tmp_path: Path
) -> None:
    spool = tmp_path / "clickhouse" / "spool"
    spool.mkdir(parents=True)
    (spool / "left-over").write_bytes(b"rows")
    server.start()
    assert list(spool.iterdir()) == []


def test_start_is_refused_with_one_line_when_the_port_or_the_folder_is_taken(
    server: WarehouseServer, tmp_path: Path
) -> None:
    server.start()
    same_port = WarehouseServer(tmp_path / "other")
    (tmp_path / "other").mkdir()
    same_port.port = server.port
    with pytest.raises(AssertionError, match="HERALD_WAREHOUSE__PORT"):
        same_port.start()
    (tmp_path / "clickhouse" / "spool" / "in-use").touch()
    with pytest.raises(AssertionError, match="does another server own it"):
        WarehouseServer(tmp_path).start()
    assert server.scalar("SELECT 1") == "1"
    assert (tmp_path / "clickhouse" / "spool" / "in-use").exists()


def test_start_is_refused_when_settings_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="HERALD_WAREHOUSE__MAX_CONCURRENT_QUERIES"):
        WarehouseServer(tmp_path, max_concurrent_queries=0).start()
