from datetime import UTC, datetime
from pathlib import Path

from herald.records import read_record, write_record

HEADER = {"schema", "command", "started_at", "finished_at", "git_commit", "machine"}


def test_record_carries_header_and_payload_when_written(tmp_path: Path) -> None:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    path = write_record(
        tmp_path / "deep" / "x.json", command="make x", started_at=started, rows=[1]
    )

    record = read_record(path)

    assert record.keys() == HEADER | {"rows"}
    assert record["schema"] == 1
    assert record["command"] == "make x"
    assert record["rows"] == [1]
    assert record["started_at"] == "2026-01-01T00:00:00.000+00:00"
    assert record["finished_at"] > record["started_at"]
    assert set(record["machine"]) == {"cores", "memory_gib", "python", "java"}
    assert record["machine"]["cores"] >= 1
    assert int(record["machine"]["java"].split()[1].partition(".")[0]) >= 17


def test_record_replaces_the_old_one_when_written_again(tmp_path: Path) -> None:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    for value in (1, 2):
        write_record(tmp_path / "x.json", command="c", started_at=started, value=value)

    assert read_record(tmp_path / "x.json")["value"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_record_is_empty_when_the_file_is_absent(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none.json") == {}
