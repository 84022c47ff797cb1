import json
from typing import Any

import pytest
from rich.console import Console

from herald.cli.demo.counts import Reconciliation, dbt_test_counts
from herald.cli.demo.run import verdict
from herald.cli.demo.table import print_logins, print_summary

CASE = {"metric": "sends", "filters": {}, "raw": 5, "dbt": 5, "api": 5, "superset": 5}


def record(**changes: Any) -> dict[str, Any]:
    good: dict[str, Any] = {
        "events": {
            "produced": 10,
            "landed": 9,
            "dead_lettered": 1,
            "duplicates": 0,
            "by_source": {"simulator": 9},
        },
        "marts": {"marts.fct_messages": 3},
        "checks": {"passed": 4, "failed": 0, "suites": {}},
        "dbt_tests": {"passed": 2, "failed": 0},
        "dag_runs": [{"dag_id": "d", "run_id": "r", "state": "success", "seconds": 7.0}],
        "dashboards": [{"slug": "s", "charts": 2, "errors": [], "seconds": 1.0}],
        "faults": [{"killed": "kafka", "lost": 0, "duplicated": 0, "recovered_seconds": 3.2}],
        "one_number": [CASE],
        "seconds": {"total": 12.0},
    }
    return good | changes


@pytest.mark.parametrize(
    ("counts", "lost", "settled"),
    [
        (Reconciliation(10, 9, 1, 0), 0, True),
        (Reconciliation(10, 8, 1, 0), 1, False),  # one offset nowhere
        (Reconciliation(10, 10, 1, 1), 0, False),  # one row twice
        (Reconciliation(10, 9, 1, 1), 1, False),  # one lost hidden behind one doubled
        (Reconciliation(0, 0, 0, 0), 0, True),
    ],
)
def test_reconciliation_counts_offsets_not_rows(
    counts: Reconciliation, lost: int, settled: bool
) -> None:
    assert counts.lost == lost
    assert counts.is_settled is settled


def test_verdict_is_silent_when_everything_holds() -> None:
    assert verdict(record()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"events": {"produced": 10, "landed": 8, "dead_lettered": 1, "duplicates": 0}},
            "produced is not landed + dead-lettered",
        ),
        (
            {"events": {"produced": 10, "landed": 9, "dead_lettered": 1, "duplicates": 2}},
            "2 duplicates",
        ),
        (
            {"faults": [{"killed": "kafka", "lost": 1, "duplicated": 0, "recovered_seconds": 3.0}]},
            "killing kafka: lost 1",
        ),
        ({"dag_runs": [{"dag_id": "d", "state": "failed", "seconds": 1.0}]}, "d ended failed"),
        ({"checks": {"passed": 1, "failed": 2}}, "2 failed checks"),
        ({"dashboards": [{"slug": "s", "errors": ["chart x: timeout"]}]}, "s: chart x: timeout"),
        ({"one_number": [CASE | {"api": 6}]}, "sends {} differs"),
    ],
)
def test_verdict_names_what_is_wrong(changes: dict[str, Any], expected: str) -> None:
    found = verdict(record(**changes))

    assert len(found) == 1
    assert expected in found[0]


def test_summary_shows_every_fact_when_printed() -> None:
    console = Console(record=True, width=80)
    named = CASE | {"metric": "unique_open_rate__human", "filters": {"tenant_id": "acme"}}
    print_summary(record(one_number=[named]), console)
    print_logins([("api", "http://127.0.0.1:1", "admin", "secret")], console)
    shown = console.export_text()

    for part in (
        "produced",
        "marts.fct_messages",
        "4 / 0",
        "success in 7 s",
        "killed kafka",
        "unique_open_rate__human",
        "tenant_id=acme",
        "total",
        "http://127.0.0.1:1",
    ):
        assert part in shown


def test_dbt_test_counts_add_up_when_several_builds_left_results(tmp_path: Any) -> None:
    for name, status in (("a", "pass"), ("b", "fail")):
        folder = tmp_path / "dbt" / name
        folder.mkdir(parents=True)
        results = [
            {"unique_id": "test.x", "status": status},
            {"unique_id": "model.x", "status": "success"},
        ]
        (folder / "run_results.json").write_text(json.dumps({"results": results}))

    assert dbt_test_counts(tmp_path) == {"passed": 1, "failed": 1}
    assert dbt_test_counts(tmp_path / "none") == {}
