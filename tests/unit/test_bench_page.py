"""The page of the benchmarks: the same record gives the same bytes, what is missing is not zero."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from herald.bench.page import WHAT, pictures, render, write_page
from herald.bench.rows import GOALS, row, save
from herald.records import now, read_record

STAGES = {
    "fetch_us": 1.2, "parse_us": 5.6, "insert_client_us": 0.4, "insert_server_us": 3.1,
    "merges_us": 0.9, "bytes": 540, "events": 600_000, "batches": 6,
}  # fmt: skip
SERIES: dict[str, list[dict[str, Any]]] = {
    "lag": [{"seconds": s, "lag": 1_000 * (s % 3), "rate": 100_000} for s in range(15, 60)],
    "visible": [
        {
            "rate": r,
            "p50_s": 0.7,
            "p90_s": 0.9,
            "p99_s": 1.4,
            "max_s": 2.0,
            "canaries": 240,
            "unseen": 0,
        }
        for r in (1_000, 10_000, 50_000)
    ],
    "recovery_lag": [
        {"victim": v, "seconds": s, "lag": max(0, 9 - s) * 10_000}
        for v in ("landing", "kafka")
        for s in range(12)
    ],
    "ways": [
        {"way": w, "stage": s, "events": 10, "events_per_s": 150_000, "spark_cpu_us": 6.5}
        for w in ("ranges", "from_json")
        for s in ("parse", "land")
    ],
    "real_time": [
        {"trigger": "realTime", "rate": 1_000, "p50_ms": 80, "p99_ms": 400, "max_ms": 500}
    ],
    "cost": [
        *({"kind": "batch", "size": n, **STAGES} for n in (1_000, 100_000)),
        *({"kind": "fields", "fields": n, **STAGES} for n in (10, 55)),
    ],
    "cost_by_rate": [
        {"rate": r, "process": p, "cpu_us": 4.0}
        for r in (1_000, 50_000)
        for p in ("kafka", "landing")
    ],
    "highest": [{"rate": 125_000, "grows": True, "slope": 900.0, "kept_up": True}],
}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "bench.json"
    rows = [
        row("landing_drain_events_per_s", 210_000.0, "3000000 events"),
        row("landing_over_from_json", 3.4, "over from_json", 61_000.0),
        row("recovery_s", 23.4, "longest of three"),
    ]
    save(path, rows, command="herald bench all", started_at=now(), series=SERIES)
    return path


def test_page_is_reproduced_when_the_record_is_the_same(record: Path, tmp_path: Path) -> None:
    first = {p.name: p.read_bytes() for p in write_page(record, tmp_path / "one")}
    again = {p.name: p.read_bytes() for p in write_page(record, tmp_path / "two")}
    assert first == again
    assert set(first) == {
        "benchmarks.md", "bench-drain.svg", "bench-lag.svg", "bench-visible.svg",
        "bench-recovery.svg", "bench-ways.svg", "bench-cost-batch.svg", "bench-cost-fields.svg",
        "bench-cost-rate.svg",
    }  # fmt: skip
    page = first["benchmarks.md"].decode()
    links = re.findall(r"\]\(\.\./images/([^)]+)\)", page)
    assert set(links) == set(first) - {"benchmarks.md"}


def test_page_says_value_goal_and_whether_it_is_met_when_measured(record: Path) -> None:
    page = render(read_record(record))
    assert (
        "| **210,000** events/s | at least 150,000 (stretch 200,000) | yes, and the stretch |"
        in page
    )
    assert "| **3.4** | at least 2 | yes | 61,000 |" in page
    assert "| **23.4** s | at most 20 | no |" in page
    assert "| batches of 100,000 | 540 | 1.2 | 5.6 | 0.4 | 3.1 | 0.9 |" in page
    assert "| 125,000 | yes | yes |" in page
    assert "| realTime | 80 | 400 | 500 |" in page


def test_row_is_absent_and_no_zero_when_it_was_not_measured(record: Path) -> None:
    page = render(read_record(record))
    figures = page.partition("## Figures and goals")[2].partition("Not measured:")[0]
    missing = page.partition("Not measured: ")[2].partition("\n")[0]
    for name in GOALS.keys() - {
        "landing_drain_events_per_s", "landing_over_from_json", "recovery_s",
    }:  # fmt: skip
        assert f"| {WHAT[name]} |" not in figures
        assert WHAT[name] in missing
    assert "**0" not in figures


def test_page_has_no_figure_and_no_plot_when_nothing_was_measured() -> None:
    page = render({})
    assert "Nothing was measured yet" in page
    assert "## Figures" not in page
    assert pictures({}) == {}


def test_old_plot_is_removed_when_the_record_lost_it(record: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    write_page(record, docs)
    other = tmp_path / "other.json"
    save(other, [row("recovery_s", 12.0, "x")], command="x", started_at=now())
    written = write_page(other, docs)
    assert [p.name for p in written] == ["benchmarks.md"]
    assert list((docs / "images").glob("*.svg")) == []


def test_every_goal_has_words_on_the_page() -> None:
    assert WHAT.keys() == GOALS.keys()


def test_rows_of_an_earlier_run_keep_their_time_when_others_are_written(record: Path) -> None:
    before = read_record(record)
    save(record, [row("api_p99_ms", 9.0, "x")], command="herald bench api", started_at=now())
    after = read_record(record)
    assert after["rows"][:3] == before["rows"]
    assert after["series"] == before["series"]
    assert after["rows"][3]["measured_at"] >= before["rows"][0]["measured_at"]


def test_goal_is_not_met_when_the_run_was_not_the_goals() -> None:
    assert row("visible_p50_s", 0.2, "at 1,000/s", valid=False).met is False
    assert row("visible_p50_s", 0.2, "at 50,000/s").met is True
