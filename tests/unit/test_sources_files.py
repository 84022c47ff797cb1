"""Files to produce: read as they are, refused clearly where they cannot be read."""

from __future__ import annotations

import gzip
import io
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import orjson
import polars as pl
import pytest

from herald.sources import files
from herald.sources.download import archive_name, fetch_archive
from herald.sources.errors import SourceError
from herald.sources.producer import Record
from herald.sources.progress import meter
from herald.sources.sinks import FileSink


def read(name: str | Path, rows: int = 0) -> list[Record]:
    return [record for part in files.read_records(str(name), rows) for record in part]


def test_lines_are_kept_byte_for_byte_when_they_are_malformed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"user_id":"u1"}\n\nnot json \xff\r\n[1]\n{"user_id":7}\n{"a":1}')
    assert read(path) == [
        ("u1", b'{"user_id":"u1"}'),
        (None, b""),
        (None, b"not json \xff"),
        (None, b"[1]"),
        (None, b'{"user_id":7}'),
        (None, b'{"a":1}'),
    ]


def test_parts_are_of_the_given_size_when_rows_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\n" * 25)
    assert [len(part) for part in files.read_records(str(path), 10)] == [10, 10, 5]
    assert files.count_records(str(path)) is None


def test_standard_input_is_read_when_the_name_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"user_id":"u"}\n')))
    assert read("-") == [("u", b'{"user_id":"u"}')]
    assert files.count_records("-") is None


def test_rows_become_events_without_empty_fields_when_parquet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame(
        {
            "user_id": ["u1", None],
            "occurred_at": [datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)] * 2,
            "subject": ["", "Hé"],
            "revenue": [Decimal("12.50"), None],
            "properties": ['{"a":[1]}', "no json"],
        }
    ).write_parquet(path)
    assert files.count_records(str(path)) == 2
    first, second = read(path)
    assert first[0] == "u1"
    assert orjson.loads(first[1] or b"") == {
        "user_id": "u1", "occurred_at": "2026-01-02T03:04:05.678Z", "revenue": 12.5,
        "properties": {"a": [1]},
    }  # fmt: skip
    assert second[0] is None
    assert b'"subject":"H\xc3\xa9"' in (second[1] or b"")
    assert b'"properties":"no json"' in (second[1] or b"")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "No such file"),
        ("missing.parquet", None, "No such file"),
        ("x.parquet", b"{}\n", "is not a Parquet file"),
        ("x.jsonl", b"PAR1....", "its name must end in .parquet"),
        ("x.jsonl.gz", gzip.compress(b"{}"), "is compressed; pipe it"),
        ("x.jsonl", b"{}\n" + b"x" * (files.MAX_RECORD_BYTES + 1), "line 2: 8388609 bytes"),
    ],
)
def test_the_file_and_the_fix_are_named_when_it_cannot_be_read(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_damaged_parquet_file_is_named_when_a_page_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"user_id": [f"user {i}" for i in range(5_000)]}).write_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(bytes(data))
    with pytest.raises(SourceError, match="is damaged"):
        read(path)


def test_streams_get_files_of_their_own_when_written(tmp_path: Path) -> None:
    with FileSink(tmp_path / "new" / "run.jsonl") as sink:
        sink.write("events", [("u", b"{}"), (None, b""), ("u", None)])
        sink.write("users", [("u", b'{"a":1}')])
        sink.finish()
    assert (tmp_path / "new" / "run.jsonl").read_bytes() == b"{}\n\n\n"
    assert (tmp_path / "new" / "run.users.jsonl").read_bytes() == b'{"a":1}\n'
    assert sorted(sink.counts().values()) == [1, 3]


def test_the_folder_is_named_when_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with FileSink(tmp_path / "taken") as sink, pytest.raises(SourceError, match="taken cannot"):
        sink.write("events", [("u", b"{}")])


def test_records_are_held_back_when_a_rate_is_set() -> None:
    begun = time.monotonic()
    with meter("pacing", 300, rate=1_000, quiet=True) as bar:
        for _ in range(6):
            bar.advance(50)
    assert bar.count == 300
    assert 0.28 < time.monotonic() - begun < 3


def test_a_cached_archive_is_used_when_it_is_there(tmp_path: Path) -> None:
    assert archive_name("obp==0.5.7") == "obp-0.5.7.tar.gz"
    (tmp_path / "obp-0.5.7.tar.gz").write_bytes(b"cached")
    assert fetch_archive(tmp_path, "obp==0.5.7").read_bytes() == b"cached"


def test_the_place_for_a_copy_is_named_when_the_index_has_no_such_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SourceError, match="could not be downloaded") as error:
        fetch_archive(tmp_path, "herald-no-such-archive==1.0")
    assert str(tmp_path / "herald-no-such-archive-1.0.tar.gz") in str(error.value)
    assert list(tmp_path.iterdir()) == []
