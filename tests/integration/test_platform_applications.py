"""Airflow's API server and MLflow as the platform runs them: up, and only for who has the login."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from infra.local import airflow
from infra.local.platform import Platform

NAMES = ("airflow-api", "airflow-scheduler", "mlflow")


@pytest.fixture(scope="module")
def applications(platform: Platform) -> Iterator[Platform]:
    platform.up(NAMES)
    yield platform
    for name in NAMES:
        platform.stop(name)


@pytest.mark.timeout(600)
def test_airflow_gives_a_token_for_the_generated_password_only(applications: Platform) -> None:
    own = applications.settings.airflow
    right = {"username": own.user, "password": own.password.get_secret_value()}
    login = httpx.post(f"{own.url}/auth/token", json=right, timeout=30)
    assert login.status_code == 201, login.text
    bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
    assert httpx.get(f"{own.url}/api/v2/dags", headers=bearer, timeout=30).status_code == 200

    wrong = httpx.post(f"{own.url}/auth/token", json={**right, "password": "wrong"}, timeout=30)
    assert wrong.status_code == 401
    assert httpx.get(f"{own.url}/api/v2/dags", timeout=30).status_code == 401

    passwords = airflow.home(applications.settings) / "passwords.json"
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert json.loads(passwords.read_text()) == {own.user: right["password"]}


@pytest.mark.timeout(600)
def test_mlflow_asks_for_the_login_and_keeps_runs_in_postgres(applications: Platform) -> None:
    own = applications.settings.mlflow
    search = f"{own.url}/api/2.0/mlflow/experiments/search"
    login = (own.user, own.password.get_secret_value())
    assert httpx.post(search, json={"max_results": 1}, timeout=30).status_code == 401
    assert httpx.post(search, json={"max_results": 1}, auth=(own.user, "wrong")).status_code == 401
    answer = httpx.post(search, json={"max_results": 1}, auth=login, timeout=30)
    assert answer.status_code == 200, answer.text
    (experiment,) = answer.json()["experiments"]
    assert experiment["artifact_location"].startswith("mlflow-artifacts:")


@pytest.mark.timeout(600)
def test_scheduler_comes_back_when_it_is_killed(applications: Platform) -> None:
    victim = applications.kill("airflow-scheduler")
    applications.up(NAMES)  # waits until it is healthy again
    (scheduler,) = [one for one in applications.status() if one.name == "airflow-scheduler"]
    assert scheduler.is_healthy
    assert scheduler.pid not in {victim, None}
