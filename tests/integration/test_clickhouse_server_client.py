"""The warehouse server under the official client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from tests.data.warehouse_server import READER, WarehouseServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseServer]:
    server = WarehouseServer(tmp_path_factory.mktemp("warehouse")).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(server: WarehouseServer) -> Iterator[Client]:
    client = server.connect()
    client.command("CREATE DATABASE marts")
    client.command("CREATE DATABASE raw")
    client.command("CREATE TABLE raw.events (id UInt64) ENGINE = MergeTree ORDER BY id")
    client.command("CREATE TABLE marts.sends (id UInt64) ENGINE = MergeTree ORDER BY id")
    client.command("INSERT INTO marts.sends SELECT number FROM numbers(10)")
    yield client
    client.close()


@pytest.fixture
def table(client: Client) -> Iterator[str]:
    client.command(
        "CREATE TABLE marts.t (id UInt64, name LowCardinality(String), at DateTime64(3, 'UTC'), "
        "cost Nullable(Decimal(18, 4)), tags Array(String)) ENGINE = MergeTree ORDER BY id"
    )
    yield "marts.t"
    client.command("DROP TABLE marts.t SYNC")


AT = datetime(2026, 11, 1, 12, 0, 0, 123000, tzinfo=UTC)
ROWS = [
    [1, "push", AT, Decimal("0.0010"), ["a", "it's"]],
    [2, "e-mail\n\t'\\", AT, None, []],
    [3, "", AT, Decimal("12.5000"), ["é"]],
]


def test_rows_come_back_equal_when_inserted_as_python_values(client: Client, table: str) -> None:
    summary = client.insert(table, ROWS, column_names=["id", "name", "at", "cost", "tags"])
    assert summary.written_rows == 3
    result = client.query(f"SELECT * FROM {table} ORDER BY id", tz_mode="aware")
    assert [list(row) for row in result.result_rows] == ROWS
    assert int(result.summary["read_rows"]) == 3
    assert int(result.summary["result_rows"]) == 3
    assert int(result.summary["elapsed_ns"]) > 0


def test_arrow_comes_back_equal_when_inserted_as_arrow(client: Client, table: str) -> None:
    sent = pa.table(
        {
            "id": pa.array([1, 2], pa.uint64()),
            "name": pa.array(["x", "y"]).dictionary_encode(),
            "at": pa.array([AT, AT], pa.timestamp("ms", "UTC")),
            "tags": pa.array([["q"], []]),
        }
    )
    assert client.insert_arrow(table, sent).written_rows == 2
    got = client.query_arrow(f"SELECT id, name, at, tags FROM {table} ORDER BY id")
    assert got["id"].to_pylist() == [1, 2]
    assert got["at"].to_pylist() == [AT, AT]
    assert got["tags"].to_pylist() == [["q"], []]


def test_frames_come_back_equal_when_inserted_as_a_frame(client: Client, table: str) -> None:
    client.insert_df(table, pd.DataFrame({"id": [7, 8], "name": ["x", "y"]}))
    frame = client.query_df(f"SELECT id, name FROM {table} ORDER BY id")
    assert frame["id"].tolist() == [7, 8]
    assert frame["name"].tolist() == ["x", "y"]


@pytest.mark.parametrize("method", ["lz4", "zstd", "gzip", False])
def test_rows_come_back_equal_when_compressed_both_ways(
    server: WarehouseServer, client: Client, table: str, method: str | bool
) -> None:
    packed = server.connect(compress=method)
    packed.insert(table, [[n, "x" * 50] for n in range(5_000)], column_names=["id", "name"])
    result = packed.query(f"SELECT id, name FROM {table} ORDER BY id")
    assert result.row_count == 5_000
    assert result.result_rows[-1] == (4_999, "x" * 50)


def test_parameters_are_bound_by_the_server_when_they_hold_quotes(client: Client) -> None:
    given = {"s": "it's; DROP TABLE x -- \\ \t é", "n": 2**63, "a": ["p'", "q"], "d": AT}
    result = client.query(
        "SELECT {s:String}, {n:UInt64}, {a:Array(String)}, {d:DateTime64(3, 'UTC')}",
        parameters=given,
        tz_mode="aware",
    )
    assert result.first_row == (given["s"], given["n"], given["a"], AT)


def test_blocks_stream_in_order_when_the_result_is_large(client: Client) -> None:
    with client.query_column_block_stream(
        "SELECT number FROM numbers(3000000)", settings={"max_block_size": 100_000}
    ) as stream:
        sizes = [len(block[0]) for block in stream]
    assert sum(sizes) == 3_000_000
    assert len(sizes) >= 30
    with client.query_arrow_stream("SELECT number AS n FROM numbers(1000000)") as arrow:
        assert sum(sum(batch["n"].to_pylist()) for batch in arrow) == 999_999 * 500_000


def test_error_is_raised_when_a_stream_breaks_in_the_middle(server: WarehouseServer) -> None:
    plain = server.connect(compress=False)
    with (
        pytest.raises((StreamFailureError, DatabaseError), match="planted"),
        plain.query_row_block_stream(
            "SELECT number, throwIf(number = 5000000, 'planted') FROM numbers(10000000)"
        ) as stream,
    ):
        for _ in stream:
            pass


@pytest.mark.parametrize(
    ("sql", "code", "text"),
    [
        ("SELECT nope", 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT * FROM marts.missing", 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(1, 'planted')", 395, "planted"),
        ("SELECT 1; SELECT 2", 62, "Multi-statements are not allowed"),
        ("SELECT 1 INTO OUTFILE '/tmp/herald-leak'", 48, "NOT_IMPLEMENTED"),
        ("INSERT INTO marts.sends FROM INFILE '/etc/passwd' FORMAT LineAsString", 48, "NOT_IMPL"),
    ],
)
def test_error_carries_code_and_text_when_a_query_is_wrong(
    client: Client, sql: str, code: int, text: str
) -> None:
    with pytest.raises(DatabaseError, match=text) as caught:
        client.command(sql)
    assert caught.value.code == code
    assert "/proc/self" not in str(caught.value)


def test_session_keeps_temporary_tables_and_settings_when_requests_share_it(
    server: WarehouseServer, client: Client
) -> None:
    session = server.connect(session_id="s-1")
    session.command("CREATE TEMPORARY TABLE picked (id UInt64)")
    session.insert("picked", [[1], [2]], column_names=["id"])
    assert session.command("SELECT sum(id) FROM picked") == 3
    session.command("SET max_block_size = 1234")
    one_query = session.query("SELECT getSetting('max_threads')", settings={"max_threads": 1})
    assert one_query.first_row == (1,)
    assert session.command("SELECT getSetting('max_block_size')") == 1234
    assert session.command("SELECT getSetting('max_threads')") != 1
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.command("SELECT * FROM picked")


def test_external_table_is_joined_when_sent_beside_a_query(client: Client) -> None:
    external = ExternalData(
        file_name="picked.csv", data=b"3,x\n4,y\n", fmt="CSV", structure="id UInt64, name String"
    )
    result = client.query(
        "SELECT name FROM marts.sends INNER JOIN picked USING id ORDER BY id",
        external_data=external,
    )
    assert result.result_rows == [("x",), ("y",)]


def test_columns_are_known_when_a_query_has_limit_zero(client: Client) -> None:
    result = client.query("SELECT id, toString(id) AS text FROM marts.sends LIMIT 0")
    assert result.column_names == ("id", "text")
    assert result.result_rows == []


class TestReader:
    """What the reader may do, and that the engine stops the rest."""

    @pytest.fixture
    def reader(self, server: WarehouseServer, client: Client) -> Client:
        return server.connect(READER)

    def test_marts_are_read_when_asked_by_the_reader(self, reader: Client) -> None:
        assert reader.query("SELECT count() FROM marts.sends").first_row == (10,)

    @pytest.mark.parametrize(
        ("sql", "code"),
        [
            ("SELECT * FROM raw.events", 497),
            ("SELECT * FROM server_logs.query_log", 497),
            ("SELECT * FROM file('/etc/passwd', 'LineAsString', 's String')", 497),
            ("SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 's String')", 497),
            ("INSERT INTO marts.sends VALUES (1)", 164),
            ("INSERT INTO marts.sends SELECT 1", 164),
            ("DROP TABLE marts.sends", 164),
            ("CREATE TEMPORARY TABLE x (a Int8)", 164),
            ("SET ROLE herald_writer_role", 164),
            ("SET readonly = 0", 164),
            ("KILL QUERY WHERE 1", 164),
            ("SYSTEM FLUSH LOGS", 164),
            ("SELECT 1 SETTINGS max_memory_usage = 1", 164),
            ("SELECT 1; SET ROLE herald_writer_role", 62),
        ],
    )
    def test_reader_is_refused_when_it_reaches_further(
        self, reader: Client, sql: str, code: int
    ) -> None:
        with pytest.raises(DatabaseError) as caught:
            reader.command(sql)
        assert caught.value.code == code

    def test_reader_sees_behind_a_view_when_the_writer_made_it(
        self, client: Client, reader: Client
    ) -> None:
        client.command(
            "CREATE OR REPLACE VIEW marts.rpt_events AS SELECT count() n FROM raw.events"
        )
        assert reader.query("SELECT n FROM marts.rpt_events").first_row == (0,)

    def test_reader_may_lower_limits_when_it_sets_them_on_the_client(self, reader: Client) -> None:
        with pytest.raises(DatabaseError, match="TIMEOUT_EXCEEDED"):
            reader.query(
                "SELECT sum(cityHash64(number)) FROM numbers(100000000000)",
                settings={"max_execution_time": 1},
            )
        with pytest.raises(DatabaseError, match="TOO_MANY_ROWS_OR_BYTES"):
            reader.query("SELECT id FROM marts.sends", settings={"max_result_rows": 3})


def test_query_log_names_user_and_query_id_when_flushed(
    server: WarehouseServer, client: Client
) -> None:
    server.connect(READER).query(
        "SELECT 'looked up later' -- it's", settings={"query_id": "q-17", "log_comment": "mine"}
    )
    client.command("SYSTEM FLUSH LOGS")
    rows = client.query(
        "SELECT user, type, query, log_comment, read_rows, toString(address), exception_code "
        "FROM system.query_log WHERE query_id = 'q-17' AND type = 'QueryFinish'"
    ).result_rows
    assert len(rows) == 1
    user, _, query, comment, read_rows, address, code = rows[0]
    assert (user, comment, read_rows, code) == (READER, "mine", 1, 0)
    assert query.startswith("SELECT 'looked up later'")
    assert "OUTFILE" not in query
    assert address.endswith("127.0.0.1")


def test_query_log_keeps_the_error_when_a_query_fails(client: Client) -> None:
    with pytest.raises(DatabaseError):
        client.query("SELECT throwIf(1)", settings={"query_id": "q-18"})
    client.command("SYSTEM FLUSH LOGS")
    found = client.query(
        "SELECT exception_code FROM system.query_log WHERE query_id = 'q-18' "
        "AND type = 'ExceptionWhileProcessing' OR query_id = 'q-18' "
        "AND type = 'ExceptionBeforeStart'"
    )
    assert found.result_rows == [(395,)]
