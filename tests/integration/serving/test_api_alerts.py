"""Alerts through the API and the command line, on a real warehouse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from api.app import create_app
from herald.alerts.lifecycle import Changes
from herald.alerts.sample import sample
from herald.alerts.store import WarehouseStore
from herald.settings import Settings, SettingsError
from infra.local.environment import child_environment
from tests.data.alert_receivers import http_receiver
from tests.integration.serving.conftest import serve


@pytest.fixture
def alert_id(writer: Client) -> str:
    """One open alert of the tenant acme."""
    for table in ("alerts", "alert_actions", "alert_transitions", "alert_deliveries"):
        writer.command(f"TRUNCATE TABLE live.{table}")
    base = sample(datetime.now(UTC)).alert
    alert = base.model_copy(update={"tenant_id": "acme", "rule": "bounce_rate"})
    WarehouseStore(writer).write(Changes({alert.alert_id: alert}))
    return alert.alert_id


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    return document


def test_alerts_are_listed_by_state_tenant_and_rule_when_asked(
    api: httpx.Client, alert_id: str
) -> None:
    (found,) = api.get("/v1/alerts", params={"tenant": "acme"}).json()["alerts"]
    assert (found["alert_id"], found["status"]) == (alert_id, "firing")
    assert found["group_key"] == {"channel": "email"}
    for other in ({"tenant": "globex"}, {"rule": "none"}, {"status": "resolved"}):
        assert api.get("/v1/alerts", params=other).json() == {"alerts": []}
    assert api.get(f"/v1/alerts/{alert_id}").json() == found


def test_alert_is_acknowledged_once_when_asked_twice(
    api: httpx.Client, alert_id: str, writer: Client
) -> None:
    for name in ("ann", "bob"):
        answer = api.post(f"/v1/alerts/{alert_id}/acknowledge", json={"by": name})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["acknowledged_by"]) == (
            "acknowledged", "ann",
        )  # fmt: skip
    told = writer.query("SELECT transition FROM live.alert_transitions FINAL").result_rows
    assert told == [("acknowledged",)]


def test_alert_is_silent_until_then_when_asked(api: httpx.Client, alert_id: str) -> None:
    answer = api.post(f"/v1/alerts/{alert_id}/silence", json={"minutes": 90, "comment": "deploy"})
    until = datetime.fromisoformat(answer.json()["silenced_until"])
    assert timedelta(minutes=85) < until - datetime.now(UTC) <= timedelta(minutes=90)
    assert api.get(f"/v1/alerts/{alert_id}").json()["silenced_until"] is not None


def test_rules_are_listed_when_asked(api: httpx.Client) -> None:
    rules = {r["name"]: r for r in api.get("/v1/alerts/rules").json()["rules"]}
    assert rules["complaint_rate"]["threshold"] == 0.003
    assert rules["bounce_rate"]["runbook"] == "docs/runbooks/alerts-bounce_spike.md"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/alerts/none", None, 404),
        ("POST", "/v1/alerts/none/acknowledge", {}, 404),
        ("POST", "/v1/alerts/none/silence", {"minutes": 0}, 422),
        ("POST", "/v1/alerts/none/silence", {"minutes": 5, "forever": True}, 422),
        ("GET", "/v1/alerts?status=open", None, 422),
        ("GET", "/v1/alerts?color=red", None, 422),
    ],
)
def test_wrong_requests_are_problems_that_name_the_field(
    api: httpx.Client, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    document = is_problem(api.request(method, path, json=body), status)
    assert document["detail"]


def test_figures_count_open_alerts_when_scraped(api: httpx.Client, alert_id: str) -> None:
    wanted = 'herald_alerts_open{rule="bounce_rate",severity="info",status="firing"} 1.0'
    deadline = time.monotonic() + 40
    # figures of an earlier scrape are kept for a quarter of a minute
    while wanted not in (text := api.get("/metrics").text):
        assert time.monotonic() < deadline, text[-2_000:]
        time.sleep(0.5)


def test_alerts_need_the_token(api_url: str) -> None:
    assert httpx.get(f"{api_url}/v1/alerts").status_code == 401


def test_alerts_answer_503_when_the_warehouse_is_away(
    served: Settings, free_port: Callable[[], int]
) -> None:
    away = served.model_copy(
        update={
            "warehouse": served.warehouse.model_copy(update={"port": free_port()}),
            "api": served.api.model_copy(update={"port": free_port()}),
        }
    )
    headers = {"Authorization": f"Bearer {served.api.password.get_secret_value()}"}
    with serve(away) as url:
        is_problem(httpx.get(f"{url}/v1/alerts", headers=headers, timeout=30), 503)


def test_api_does_not_start_when_rules_are_wrong(served: Settings, tmp_path: Any) -> None:
    alerts = served.alerts.model_copy(update={"rules_dir": tmp_path})
    with pytest.raises(SettingsError, match=r"rules of the alerts cannot be used: .*no \.yaml"):
        create_app(served.model_copy(update={"alerts": alerts}))


def herald(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "herald.cli.main", "alerts", *words],
        env={**os.environ, **child_environment(settings)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_commands_list_acknowledge_and_silence_by_the_first_characters(
    served: Settings, alert_id: str
) -> None:
    assert json.loads(herald(served, "list", "--json").stdout)[0]["alert_id"] == alert_id
    taken = herald(served, "ack", alert_id[:12], "--by", "ann", "--json")
    assert json.loads(taken.stdout)["acknowledged_by"] == "ann"
    quiet = herald(served, "silence", alert_id[:12], "--for", "2h", "--json")
    assert json.loads(quiet.stdout)["silenced_until"] is not None
    ended = herald(served, "resolve", alert_id[:12], "--json")
    assert json.loads(ended.stdout)["status"] == "resolved"
    wrong = herald(served, "silence", alert_id, "--for", "soon")
    assert (wrong.returncode, "write a whole number" in wrong.stderr) == (2, True)
    missing = herald(served, "ack", "no-such-alert")
    assert (missing.returncode, "no such alert" in missing.stderr) == (1, True)


def test_test_command_tells_every_destination_and_fails_when_one_does_not_take_it(
    served: Settings, settings: Settings, broker: str
) -> None:
    assert settings.kafka.servers == broker
    with http_receiver() as hook:
        alerts = served.alerts.model_copy(update={"webhook_url": SecretStr(hook.url)})
        own = served.model_copy(update={"kafka": settings.kafka, "alerts": alerts})
        first = herald(own, "test", "--json")
        hook.answers = [500]
        second = herald(own, "test", "--json")
    outcomes = [{r["destination"]: r["outcome"] for r in json.loads(done.stdout)}
                for done in (first, second)]  # fmt: skip
    assert (first.returncode, second.returncode) == (0, 1)
    assert outcomes[0] == {"topic": "1 records", "webhook": "HTTP 200"}
    assert outcomes[1]["webhook"] == "failed: webhook: HTTP 500: ok"
    assert hook.bodies[0]["event"] == "alerts.test"


def test_rules_command_shows_rules_and_says_what_is_wrong(served: Settings, tmp_path: Any) -> None:
    assert len(json.loads(herald(served, "rules", "--json").stdout)) >= 10
    wrong = herald(served, "rules", "--folder", str(tmp_path))
    assert (wrong.returncode, "no .yaml file" in wrong.stderr) == (1, True)
