"""The whole platform, as `make demo` starts it, with fewer events: every engine is the real one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from herald.cli.demo.counts import reconcile
from herald.settings import ROOT, Settings
from infra.local.platform import Platform

EVENTS = 60_000
PLAN = ("--events", str(EVENTS), "--open-bandit", "2000", "--fault-events", "20000")


def herald(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "herald.cli.main", *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def whole_platform(settings: Settings, herald_environment: dict[str, str]) -> Iterator[Platform]:
    yield Platform(settings)
    herald(herald_environment, "down")


@pytest.fixture(scope="module")
def first(
    whole_platform: Platform, settings: Settings, herald_environment: dict[str, str]
) -> dict[str, Any]:
    done = herald(herald_environment, "demo", *PLAN, "--json")
    assert done.returncode == 0, done.stdout[-2000:]
    record: dict[str, Any] = json.loads((settings.state_dir / "demo.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1])["events"] == record["events"]
    return record


@pytest.mark.timeout(1200)
def test_every_event_is_accounted_for_when_parts_were_killed(
    first: dict[str, Any], settings: Settings
) -> None:
    events = first["events"]

    assert events["produced"] >= EVENTS + 3 * 20_000 + 2_000
    assert events["landed"] + events["dead_lettered"] == events["produced"]
    assert events["duplicates"] == 0
    assert events["dead_lettered"] > 0  # the simulator's malformed events
    assert sum(events["by_source"].values()) == events["landed"]
    assert events["by_source"]["open_bandit"] >= 2_000
    assert [f["killed"] for f in first["faults"]] == ["landing", "warehouse", "kafka"]
    assert all(f["lost"] == f["duplicated"] == 0 for f in first["faults"])
    assert all(f["produced"] >= 20_000 for f in first["faults"])
    assert reconcile(settings).is_settled


@pytest.mark.timeout(1200)
def test_scheduler_built_the_marts_and_every_check_passed(first: dict[str, Any]) -> None:
    assert {run["dag_id"]: run["state"] for run in first["dag_runs"]} == {
        "marts__build__hourly": "success",
        "quality__check__hourly": "success",
        "quality__report__daily": "success",
    }
    assert first["checks"]["failed"] == 0
    assert first["checks"]["passed"] > 30
    assert first["dbt_tests"]["failed"] == 0
    assert first["dbt_tests"]["passed"] > 20
    assert first["marts"]["marts.fct_messages"] > 5_000
    assert first["marts"]["marts.dim_users"] > 100


@pytest.mark.timeout(1200)
def test_one_number_is_the_same_on_four_surfaces(first: dict[str, Any]) -> None:
    assert len(first["one_number"]) >= 5
    for case in first["one_number"]:
        assert case["raw"] == case["dbt"] == case["api"] == case["superset"], case
    assert any(case["raw"] for case in first["one_number"])


@pytest.mark.timeout(1200)
def test_dashboards_render_without_an_error_in_a_browser(first: dict[str, Any]) -> None:
    boards = {board["slug"]: board for board in first["dashboards"]}

    assert boards.keys() == {"campaign-overview", "pipeline-operator"}
    for board in boards.values():
        assert board["errors"] == []
        assert board["charts"] >= 6
        assert Path(board["screenshot"]).stat().st_size > 20_000


@pytest.mark.timeout(1200)
def test_demo_changes_nothing_but_its_runs_when_run_again(
    first: dict[str, Any], settings: Settings, herald_environment: dict[str, str]
) -> None:
    done = herald(herald_environment, "demo", *PLAN, "--no-dashboards", "--json")

    assert done.returncode == 0
    second = json.loads((settings.state_dir / "demo.json").read_text())
    assert second["events"] == first["events"]
    assert second["faults"] == first["faults"]
    same = {name: rows for name, rows in first["marts"].items() if ".fct_" in name}
    assert {name: second["marts"][name] for name in same} == same


@pytest.mark.timeout(300)
def test_down_leaves_no_process_behind(
    first: dict[str, Any],
    whole_platform: Platform,
    herald_environment: dict[str, str],
) -> None:
    pids = [s.pid for s in whole_platform.status() if s.pid]
    assert len(pids) >= 11

    assert herald(herald_environment, "down").returncode == 0

    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
