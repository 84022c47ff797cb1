"""The DAG folder as Airflow reads it, and what the DAGs share, in the Airflow environment."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from herald.environments import env_python
from herald.settings import ROOT

DAGS = ROOT / "dags"
IN_AIRFLOW = ROOT / "tests" / "airflow_env"
MAX_LINES = 80
TAGS = {"tier-1", "tier-2", "marts", "quality", "landing", "housekeeping"}
SCHEDULES = {
    "dead_letters__replay__manual": None,
    "lake__sync__quarter_hourly": "4,19,34,49 * * * *",
    "marts__build__hourly": ["events_landed"],
    "quality__check__hourly": "37 * * * *",
    "quality__report__daily": "15 6 * * *",
    "retention__apply__daily": "30 3 * * *",
}
DAG_IDS = sorted(SCHEDULES)


def airflow_environment(home: Path, base: dict[str, str]) -> dict[str, str]:
    return {
        **base,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
        "DO_NOT_TRACK": "1",
    }


def dump(folder: Path, home: Path) -> dict[str, Any]:
    target = home / "dags.json"
    done = subprocess.run(
        [env_python("airflow"), str(IN_AIRFLOW / "dump_dags.py"), str(folder), str(target)],
        env=airflow_environment(home, dict(os.environ)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(target.read_text())
    return found


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dump(DAGS, tmp_path_factory.mktemp("airflow"))


def test_dag_folder_holds_exactly_these_dags(bag: dict[str, Any]) -> None:
    assert bag["import_errors"] == {}
    assert sorted(bag["dags"]) == DAG_IDS
    assert sorted(path.stem for path in DAGS.glob("*.py")) == DAG_IDS


def test_dag_folder_shows_an_import_error_when_a_file_is_broken(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("from airflow.sdk import dag, no_such_name\n")

    found = dump(tmp_path, tmp_path)

    assert found["dags"] == {}
    assert [Path(name).name for name in found["import_errors"]] == ["broken.py"]


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_dag_is_operable_when_something_goes_wrong(bag: dict[str, Any], dag_id: str) -> None:
    dag = bag["dags"][dag_id]

    assert dag["file"] == f"{dag_id}.py"
    assert {task["owner"] for task in dag["tasks"]} == {"data-platform"}
    assert {task["retries"] for task in dag["tasks"]} == {2}
    assert {task["timeout_seconds"] for task in dag["tasks"]} == {55 * 60}
    tags = set(dag["tags"])
    assert tags <= TAGS
    assert len(tags & {"tier-1", "tier-2"}) == 1
    assert dag["max_active_runs"] == 1
    assert dag["catchup"] is False
    assert f"docs/runbooks/{dag_id}.md" in dag["doc_md"]
    runbook = (ROOT / "docs" / "runbooks" / f"{dag_id}.md").read_text()
    for task in dag["tasks"]:
        assert f"`{task['task_id']}`" in runbook, f"runbook does not say what {task} is for"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_dag_file_is_wiring_only(dag_id: str) -> None:
    text = (DAGS / f"{dag_id}.py").read_text()

    assert len(text.splitlines()) <= MAX_LINES
    assert "select " not in text.lower().replace("select=", "")


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_dag_runs_when_the_table_of_schedules_says(bag: dict[str, Any], dag_id: str) -> None:
    schedule = bag["dags"][dag_id]["schedule"]

    assert schedule == SCHEDULES[dag_id]
    shown = {None: "by hand", "events_landed": "asset `events_landed`"}
    key = schedule[0] if isinstance(schedule, list) else schedule
    (row,) = [
        line
        for line in (DAGS / "README.md").read_text().splitlines()
        if line.startswith(f"| `{dag_id}`")
    ]
    assert shown.get(key, f"`{key}`") in row


def test_marts_are_built_behind_gates(bag: dict[str, Any]) -> None:
    tasks = bag["dags"]["marts__build__hourly"]["tasks"]

    assert [(t["task_id"], t["upstream"]) for t in tasks] == [
        ("check_raw", []),
        ("build_staging", ["check_raw"]),
        ("check_staging", ["build_staging"]),
        ("build_marts", ["check_staging"]),
        ("check_marts", ["build_marts"]),
    ]
    assert tasks[-1]["outlets"] == ["marts_built"]


def test_replay_is_dry_when_nothing_is_chosen(bag: dict[str, Any]) -> None:
    assert bag["dags"]["dead_letters__replay__manual"]["params"] == {
        "class": "",
        "field": "",
        "topic": "",
        "tenant": "",
        "since": "",
        "until": "",
        "fix_up": "",
        "limit": 1_000_000,
        "dry_run": True,
    }


def test_orchestration_passes_its_checks_in_the_airflow_environment(
    warehouse: Client, herald_environment: dict[str, str], tmp_path: Path
) -> None:
    warehouse.command("truncate table raw.landed_ranges")
    report = tmp_path / "report.xml"
    try:
        done = subprocess.run(
            [
                env_python("airflow"),
                "-m",
                "pytest",
                "-q",
                # the options of pyproject.toml belong to plugins of the app environment
                "-c",
                os.devnull,
                f"--rootdir={IN_AIRFLOW}",
                "-p",
                "no:cacheprovider",
                "--noconftest",
                f"--junitxml={report}",
                str(IN_AIRFLOW / "orchestration_checks.py"),
            ],
            env=airflow_environment(tmp_path, herald_environment),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    finally:
        warehouse.command("truncate table raw.landed_ranges")

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    written = (IN_AIRFLOW / "orchestration_checks.py").read_text().count("\ndef test_")
    assert int(suite.attrib["tests"]) == written
    assert int(suite.attrib["skipped"]) == 0
