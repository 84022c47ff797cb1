"""The warehouse server as plain HTTP: logins, headers, bodies, encodings."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from urllib.parse import urlencode

import lz4.frame
import pytest
import urllib3
import zstandard

from tests.data.warehouse_server import (
    READER,
    READER_PASSWORD,
    WRITER_PASSWORD,
    WarehouseServer,
)

PACK = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.compress,
}
UNPACK = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseServer]:
    server = WarehouseServer(tmp_path_factory.mktemp("warehouse")).start()
    server.scalar("CREATE DATABASE marts")
    yield server
    server.close()


@pytest.fixture
def table(server: WarehouseServer) -> Iterator[str]:
    server.scalar("CREATE TABLE marts.t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    yield "marts.t"
    server.scalar("DROP TABLE marts.t SYNC")


@pytest.mark.parametrize("path", ["ping", "replicas_status"])
def test_health_is_answered_when_nobody_logs_in(server: WarehouseServer, path: str) -> None:
    answer = urllib3.request("GET", server.url + path)
    assert (answer.status, answer.data) == (200, b"Ok.\n")


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "url", "status", "code"),
    [
        (_basic("herald", WRITER_PASSWORD), "", 200, None),
        (_basic(READER, READER_PASSWORD), "", 200, None),
        ({"X-ClickHouse-User": READER, "X-ClickHouse-Key": READER_PASSWORD}, "", 200, None),
        ({}, f"&user=herald&password={WRITER_PASSWORD}", 200, None),
        (_basic("herald", "wrong"), "", 403, "516"),
        (_basic("herald", READER_PASSWORD), "", 403, "516"),
        (_basic("nobody", ""), "", 403, "516"),
        ({"Authorization": "Basic %%%"}, "", 403, "516"),
        ({"X-ClickHouse-User": "herald"}, "", 403, "516"),
        ({}, "", 401, "194"),
    ],
)
def test_login_is_checked_when_it_comes_by_header_or_url(
    server: WarehouseServer, headers: dict[str, str], url: str, status: int, code: str | None
) -> None:
    answer = urllib3.request("GET", f"{server.url}?query=SELECT+1{url}", headers=headers)
    assert answer.status == status
    assert answer.headers.get("X-ClickHouse-Exception-Code") == code


def test_headers_tell_the_truth_when_rows_are_read_and_written(
    server: WarehouseServer, table: str
) -> None:
    wrote = server.ask("1,x\n2,y\n3,z\n", query=f"INSERT INTO {table} FORMAT CSV")
    summary = json.loads(wrote.headers["X-ClickHouse-Summary"])
    assert summary["written_rows"] == "3"
    assert int(summary["written_bytes"]) > 0
    read = server.ask(f"SELECT sum(a) FROM {table} WHERE a > 1 FORMAT JSONCompact", query_id="q-1")
    summary = json.loads(read.headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["result_rows"]) == ("3", "1")
    assert json.loads(read.data)["data"] == [[5]]
    assert read.headers["X-ClickHouse-Format"] == "JSONCompact"
    assert read.headers["X-ClickHouse-Query-Id"] == "q-1"
    assert read.headers["X-ClickHouse-Timezone"] == "UTC"
    assert read.headers["X-ClickHouse-Server-Display-Name"]
    assert read.headers["Content-Type"] == "application/json; charset=UTF-8"
    copied = server.ask(f"INSERT INTO {table} SELECT a + 10, b FROM {table}")
    summary = json.loads(copied.headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["written_rows"]) == ("3", "3")


@pytest.mark.parametrize("encoding", list(PACK))
def test_body_is_unpacked_when_it_is_encoded(
    server: WarehouseServer, table: str, encoding: str
) -> None:
    pack = PACK[encoding]
    headers = {"Content-Encoding": encoding}
    rows = b"".join(b"%d\tv\n" % n for n in range(1_000))
    in_url = server.ask(pack(rows), headers=headers, query=f"INSERT INTO {table} FORMAT TSV")
    assert in_url.status == 200, in_url.data
    in_body = server.ask(pack(f"INSERT INTO {table} FORMAT TSV\n".encode() + rows), headers=headers)
    assert in_body.status == 200, in_body.data
    assert server.scalar(f"SELECT count(), sum(a) FROM {table}") == "2000\t999000"
    asked = server.ask(pack(b"SELECT 7"), headers=headers)
    assert asked.data == b"7\n"
    broken = server.ask(b"not packed", headers=headers)
    assert broken.status == 400
    assert encoding in broken.data.decode()


@pytest.mark.parametrize("encoding", list(UNPACK))
def test_result_is_packed_when_the_client_accepts_it(
    server: WarehouseServer, encoding: str
) -> None:
    sql = "SELECT number FROM numbers(300000)"
    packed = server.ask(sql, headers={"Accept-Encoding": encoding}, enable_http_compression=1)
    assert packed.headers["Content-Encoding"] == encoding
    assert UNPACK[encoding](packed.data) == server.ask(sql).data
    plain = server.ask(sql, headers={"Accept-Encoding": encoding})
    assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize(
    "name",
    ["TabSeparated", "TSVWithNamesAndTypes", "CSV", "CSVWithNames", "JSON", "JSONEachRow",
     "JSONCompactEachRow", "JSONColumns", "Native", "RowBinary", "RowBinaryWithNamesAndTypes",
     "ArrowStream", "Arrow", "Parquet", "ORC", "Avro", "Values", "MsgPack",
     "BSONEachRow", "CustomSeparated"],
)  # fmt: skip
def test_result_is_read_back_when_a_format_goes_both_ways(
    server: WarehouseServer, table: str, name: str
) -> None:
    # more rows than one block, so that a header or footer a block would show
    sql = "SELECT toUInt32(number) AS a, toString(number) AS b FROM numbers(150000)"
    out = server.ask(sql + f" FORMAT {name}")
    assert out.status == 200, out.data[:500]
    assert out.headers["X-ClickHouse-Format"] == name
    back = server.ask(out.data, query=f"INSERT INTO {table} FORMAT {name}")
    assert back.status == 200, back.data[:500]
    assert server.scalar(f"SELECT count(), sum(a), max(b) FROM {table}") == (
        "150000\t11249925000\t99999"
    )


@pytest.mark.parametrize("name", ["PrettyCompact", "Vertical", "XML", "Markdown", "Null"])
def test_result_is_shown_when_a_format_is_for_output_only(
    server: WarehouseServer, name: str
) -> None:
    answer = server.ask("SELECT 41 + 1 AS answer", default_format=name)
    assert answer.status == 200
    assert (b"42" in answer.data) == (name != "Null")


def test_result_starts_at_once_when_it_is_large(server: WarehouseServer) -> None:
    answer = server.ask(
        "SELECT number, sleepEachRow(0.00001) FROM numbers(100000000) FORMAT RowBinary",
        preload=False,
        max_block_size=10_000,
    )
    assert answer.status == 200
    assert len(answer.read(8)) == 8
    answer.close()


def test_body_has_no_end_when_a_query_breaks_behind_its_first_rows(
    server: WarehouseServer,
) -> None:
    answer = server.ask(
        "SELECT number, throwIf(number = 5000000, 'planted') FROM numbers(10000000)", preload=False
    )
    assert answer.status == 200
    data = bytearray()

    def read() -> None:
        for part in answer.stream(1 << 16):
            data.extend(part)

    with pytest.raises(urllib3.exceptions.ProtocolError):
        read()
    tag = answer.headers["X-ClickHouse-Exception-Tag"].encode()
    assert b"__exception__\r\n" + tag in data
    assert b"planted" in data


def test_error_has_its_own_status_when_the_client_waits_for_the_end(
    server: WarehouseServer,
) -> None:
    answer = server.ask(
        "SELECT number, throwIf(number = 900000, 'planted') FROM numbers(1000000)",
        wait_end_of_query=1,
    )
    assert answer.status == 500
    assert answer.headers["X-ClickHouse-Exception-Code"] == "395"


@pytest.mark.parametrize(
    ("sql", "url", "status", "code"),
    [
        ("SELEC", {}, 400, "62"),
        ("", {}, 400, "62"),
        (b"SELECT '\xff'", {}, 400, "117"),
        ("SELECT * FROM no.such", {}, 404, "81"),
        ("SELECT 1", {"database": "no_such"}, 404, "81"),
        ("SELECT 1", {"no_such_setting": 1}, 404, "115"),
        ("SELECT 1", {"max_threads": "many"}, 400, None),
        ("SELECT 1", {"bad name": 1}, 400, "36"),
        ("SELECT 1 FORMAT NoSuch", {}, 404, "73"),
        ("SELECT {x:UInt8}", {}, 400, "456"),
        ("SELECT 1", {"compress": 1}, 501, "48"),
        ("SELECT 1", {"session_id": "none", "session_check": 1}, 500, "372"),
        ("SELECT 1", {"session_id": "s", "session_timeout": "9999"}, 500, "374"),
        ("INSERT INTO marts.none VALUES (1)", {}, 404, "60"),
    ],
)
def test_error_names_the_fault_when_a_request_is_wrong(
    server: WarehouseServer,
    sql: str | bytes,
    url: dict[str, object],
    status: int,
    code: str | None,
) -> None:
    answer = server.ask(sql, path="?" + urlencode(url) if url else "")
    assert answer.status == status, answer.data
    if code:
        assert answer.headers["X-ClickHouse-Exception-Code"] == code
        assert answer.data.startswith(f"Code: {code}. DB::Exception: ".encode())


def test_rows_are_refused_when_one_of_them_is_damaged(server: WarehouseServer, table: str) -> None:
    answer = server.ask("1\tx\nnot a number\ty\n", query=f"INSERT INTO {table} FORMAT TSV")
    assert answer.status == 400
    assert answer.headers["X-ClickHouse-Exception-Code"] == "27"
    assert server.scalar(f"SELECT count() FROM {table}") == "0"


def test_nothing_is_inserted_when_a_body_ends_early(server: WarehouseServer, table: str) -> None:
    head = (
        f"POST /?user=herald&password={WRITER_PASSWORD}&query=INSERT+INTO+{table}+FORMAT+TSV "
        "HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + b"1\tx\n2\ty\n")
    assert server.scalar(f"SELECT count() FROM {table}") == "0"


def test_rows_arrive_whole_when_the_body_is_chunked_and_large(
    server: WarehouseServer, table: str
) -> None:
    block = b"".join(b"%d\t%s\n" % (n, b"x" * 90) for n in range(100_000))
    parts = (block for _ in range(9))  # 86 MB: more than is kept in memory
    answer = server.ask(parts, query=f"INSERT INTO {table} FORMAT TSV")
    assert answer.status == 200, answer.data
    assert server.scalar(f"SELECT count(), uniqExact(a) FROM {table}") == "900000\t100000"
    assert list((server.folder / "clickhouse" / "spool").iterdir()) == []


def test_parameters_come_in_a_form_when_the_query_does(server: WarehouseServer) -> None:
    fields = {"query": "SELECT {name:String} || '!'", "param_name": "a'b"}
    body, kind = urllib3.encode_multipart_formdata(fields)
    answer = server.ask(body, headers={"Content-Type": kind})
    assert answer.data == b"a\\'b!\n"


def test_other_paths_and_methods_are_refused_when_asked(server: WarehouseServer) -> None:
    assert server.ask(path="play").status == 404
    assert server.ask(method="DELETE").status == 405


def test_connection_is_kept_when_requests_follow_each_other(server: WarehouseServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for number in (11, 12):
            target = f"/?user=herald&password={WRITER_PASSWORD}&query=SELECT+{number}"
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = connection.recv(65_536)
            while not answer.endswith(b"\r\n\r\n%d\n" % number):
                answer += connection.recv(65_536)
