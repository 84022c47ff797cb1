"""Tests of herald.orchestration. pytest of the Airflow environment runs them, against a warehouse
that tests/integration/test_dags.py has started.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from herald.orchestration import (
    DEFAULT_ARGS,
    LandedTrigger,
    RunModule,
    dbt_build,
    herald_command,
    quality_gate,
)
from herald.settings import load_settings


@pytest.fixture
def land() -> Callable[[int], None]:
    """Adds a range to the ledger, as the landing job does."""
    warehouse = load_settings().warehouse

    def insert(first_offset: int) -> None:
        httpx.post(
            f"http://{warehouse.host}:{warehouse.port}/",
            content="insert into raw.landed_ranges (topic, first_offset, last_offset, landed_at)"
            f" values ('trigger', {first_offset}, {first_offset}, now64(3))",
            headers={
                "X-ClickHouse-User": warehouse.user,
                "X-ClickHouse-Key": warehouse.password.get_secret_value(),
            },
        ).raise_for_status()

    return insert


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERALD_AIRFLOW__MARTS_INTERVAL_SECONDS", "1")


@pytest.mark.usefixtures("quick")
def test_trigger_fires_once_when_events_landed(land: Callable[[int], None]) -> None:
    async def watch() -> None:
        events = LandedTrigger(poll_seconds=0.2).run()
        land(1)
        first = await asyncio.wait_for(anext(events), 20)
        following = asyncio.ensure_future(anext(events))
        done, _ = await asyncio.wait([following], timeout=3)
        assert not done, "fired again although nothing landed"
        land(2)
        second = await asyncio.wait_for(following, 20)
        assert second.payload["landed_at"] > first.payload["landed_at"]

    asyncio.run(watch())


@pytest.mark.usefixtures("quick")
def test_trigger_waits_when_warehouse_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERALD_WAREHOUSE__PORT", "1")

    async def watch() -> None:
        waiting = asyncio.ensure_future(anext(LandedTrigger(poll_seconds=0.2).run()))
        done, _ = await asyncio.wait([waiting], timeout=3)
        assert not done, f"ended instead of waiting: {done}"
        waiting.cancel()

    asyncio.run(watch())


def test_trigger_keeps_no_secret_when_serialized() -> None:
    path, arguments = LandedTrigger(poll_seconds=3).serialize()

    assert path == "herald.orchestration.LandedTrigger"
    assert arguments == {"poll_seconds": 3}


def test_command_leaves_out_options_when_they_are_empty() -> None:
    task = herald_command(
        "replay",
        "dead-letters",
        "replay",
        "",
        options={"class": "", "since": "2026-01-01; rm -rf /", "dry-run": "True", "force": "False"},
    )

    assert task.command()[1:] == [
        "-m",
        "herald.cli.main",
        "dead-letters",
        "replay",
        "--since",
        "2026-01-01; rm -rf /",
        "--dry-run",
    ]


def test_gate_checks_each_layer_under_the_name_of_the_run() -> None:
    task = quality_gate("raw", "marts")

    assert task.task_id == "check_raw_marts"
    assert task.arguments == ["--layer", "raw", "--layer", "marts"]
    assert task.options == {"run-id": "{{ run_id }}"}


def test_task_is_retried_when_its_program_cannot_run() -> None:
    task = quality_gate("bronze")

    with pytest.raises(AirflowException, match="no layer bronze; known: raw, staging") as failure:
        task.execute({})

    assert not isinstance(failure.value, AirflowFailException)


def test_task_is_not_retried_when_its_gate_is_closed(land: Callable[[int], None]) -> None:
    land(3)
    land(3)  # the same offsets twice: ranges overlap
    task = quality_gate("raw")
    task.options = {"run-id": "orchestration"}

    with pytest.raises(AirflowFailException, match="ranges_do_not_overlap"):
        task.execute({})


def test_task_succeeds_when_its_program_does() -> None:
    task = RunModule(task_id="version", environment="app", module="platform")

    task.execute({})
    task.on_kill()


def test_dbt_shows_no_password_when_its_fields_are_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HERALD_WAREHOUSE__PASSWORD", raising=False)
    password = load_settings().warehouse.password.get_secret_value()
    with DAG("any", schedule=None):
        task = dbt_build("staging", select="tag:staging")

    for interceptor in task.interceptors:
        interceptor({}, task)

    assert password
    assert os.environ["HERALD_WAREHOUSE__PASSWORD"] == password
    shown = {name: getattr(task, name, None) for name in task.template_fields}
    assert password not in str(shown)
    assert task.task_id == "build_staging"


def test_run_results_are_kept_when_dbt_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "secrets.env").write_text(
        (load_settings().state_dir / "secrets.env").read_text()
        if (load_settings().state_dir / "secrets.env").is_file()
        else ""
    )
    monkeypatch.setenv("HERALD_STATE_DIR", str(state))
    target = tmp_path / "project" / "target"
    target.mkdir(parents=True)
    (target / "run_results.json").write_text(json.dumps({"results": [1]}))
    task: Any = dbt_build("marts", select="tag:marts")

    task.callback(str(tmp_path / "project"), context={}, **task.callback_args)

    kept = state / "dbt" / "build_marts"
    assert json.loads((kept / "run_results.json").read_text()) == {"results": [1]}
    assert not (kept / "manifest.json").exists()


def test_every_task_has_an_owner_and_retries() -> None:
    assert DEFAULT_ARGS["owner"]
    assert DEFAULT_ARGS["retries"] >= 1
