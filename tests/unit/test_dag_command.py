"""`herald dag` where Airflow is not there, and input that cannot be used."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from herald.airflow_client import AirflowClient, AirflowClientError, DagRun
from herald.cli.main import build_app
from herald.settings import Airflow
from infra.local.ports import free_ports

RUNNER = CliRunner()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port where nobody listens, as Airflow's."""
    port = free_ports(1)[0]
    monkeypatch.setenv("HERALD_AIRFLOW__PORT", str(port))
    return port


@pytest.mark.parametrize(
    "words", [["trigger", "some_dag"], ["wait", "some_dag", "some_run"], ["runs"]]
)
def test_command_says_where_airflow_was_looked_for_when_it_is_down(
    nobody: int, words: list[str]
) -> None:
    result = RUNNER.invoke(build_app(), ["dag", *words])

    assert result.exit_code == 2
    assert f"Airflow at http://127.0.0.1:{nobody} does not answer" in result.stderr


@pytest.mark.parametrize(
    ("conf", "message"),
    [("{dry_run: true}", "is not JSON"), ("[1]", "must be a JSON object, such as")],
)
def test_trigger_is_refused_when_conf_is_no_object(conf: str, message: str) -> None:
    result = RUNNER.invoke(build_app(), ["dag", "trigger", "some_dag", "--conf", conf])

    assert result.exit_code == 2
    assert f"--conf {conf!r} {message}" in result.stderr


def test_client_fails_clearly_when_airflow_is_down() -> None:
    client = AirflowClient(Airflow(port=free_ports(1)[0]))

    with client, pytest.raises(AirflowClientError, match="does not answer"):
        client.wait_for_dags({"some_dag"})


def test_run_has_no_seconds_before_it_starts() -> None:
    start, end = datetime(2026, 11, 1, 12, tzinfo=UTC), datetime(2026, 11, 1, 12, 0, 5, tzinfo=UTC)

    assert DagRun("d", "r", "queued", None, None).seconds is None
    assert DagRun("d", "r", "success", start, end).seconds == 5.0
    assert DagRun("d", "r", "success", start, end).is_final
    assert not DagRun("d", "r", "running", start, None).is_final
