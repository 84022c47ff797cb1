"""The API under a real uvicorn, in front of a real warehouse."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from herald.settings import ROOT, Settings, SettingsError
from infra.local.environment import child_environment
from tests.integration.serving.conftest import serve

RANGE = {"tenant": "acme", "from": "2026-11-01", "to": "2026-11-03"}
BODY = {
    "tenant_id": "acme",
    "metrics": ["sends", "delivery_rate"],
    "start": "2026-11-01T00:00:00Z",
    "end": "2026-11-03T00:00:00Z",
}


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"urn:herald:problem:{code}"
    assert document["title"]
    assert document["detail"]
    assert document["request_id"]
    return document


def test_catalogue_lists_definitions_when_asked(api: httpx.Client) -> None:
    catalogue = api.get("/v1/metrics").json()
    found = {m["name"]: m for m in catalogue["metrics"]}
    assert len(found) >= 40
    assert found["delivery_rate"]["denominators"] == ["sends"]
    assert found["unique_open_rate"]["audiences"] == ["all", "human", "machine"]
    assert "channel" in {d["name"] for d in catalogue["dimensions"]}


def test_metric_is_read_when_asked_by_url(api: httpx.Client) -> None:
    answer = api.get("/v1/metrics/delivery_rate", params=RANGE)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["rows"] == [{"delivery_rate": pytest.approx(6 / 7)}]
    assert document["scope_label"] == "sent in range"
    assert document["data_as_of"] == "2026-11-20T12:00:00Z"
    assert document["columns"][0]["definition_version"].startswith("1-")


def test_metric_follows_every_parameter_when_asked_by_url(api: httpx.Client) -> None:
    answer = api.get(
        "/v1/metrics/unique_opens",
        params=RANGE
        | {
            "dimensions": "campaign,country",
            "filter": ["channel:email,push", "!country:IN"],
            "grain": "day",
            "time_zone": "Europe/Berlin",
            "scope": "sent",
            "audience": "human",
            "order": "-unique_opens,country",
            "limit": "2",
            "compare": "previous",
        },
    )
    assert answer.status_code == 200, answer.text
    assert [(r["campaign"], r["country"], r["unique_opens"]) for r in answer.json()["rows"]] == [
        ("spring", "DE", 1),
        ("spring", "FR", 1),
    ]
    assert answer.json()["next_cursor"]


def test_pages_follow_each_other_when_cursor_is_sent_back(api: httpx.Client) -> None:
    seen: list[str] = []
    params = RANGE | {"dimensions": "campaign", "limit": "3"}
    while True:
        page = api.get("/v1/metrics/sends", params=params).json()
        seen += [row["campaign"] for row in page["rows"]]
        if page["next_cursor"] is None:
            break
        params |= {"cursor": page["next_cursor"]}
    assert seen == ["autumn", "banner", "spring", "taps"]


def test_question_is_answered_when_posted(api: httpx.Client) -> None:
    answer = api.post("/v1/query", json=BODY | {"dimensions": ["channel"]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [
        {"channel": "email", "sends": 5, "delivery_rate": 0.8},
        {"channel": "in_app", "sends": 0, "delivery_rate": None},
        {"channel": "push", "sends": 2, "delivery_rate": 1.0},
    ]


def test_rows_come_as_json_lines_when_streamed(api: httpx.Client) -> None:
    with api.stream("POST", "/v1/query/stream", json=BODY | {"dimensions": ["campaign"]}) as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        found = [json.loads(line) for line in answer.iter_lines()]
    assert [row["campaign"] for row in found] == ["autumn", "banner", "spring", "taps"]
    nothing = api.post(
        "/v1/query/stream", json=BODY | {"tenant_id": "x", "dimensions": ["campaign"]}
    )
    assert nothing.status_code == 200
    assert nothing.content == b""


def test_stream_is_refused_with_a_status_when_the_question_is_wrong(api: httpx.Client) -> None:
    is_problem(
        api.post("/v1/query/stream", json=BODY | {"metrics": ["opns"]}), 422, "invalid_query"
    )


def test_unknown_metric_is_named_with_near_matches_when_asked(api: httpx.Client) -> None:
    document = is_problem(api.get("/v1/metrics/opn_rate", params=RANGE), 404, "not_found")
    assert "unique_open_rate" in document["detail"]
    document = is_problem(
        api.post("/v1/query", json=BODY | {"metrics": ["opns"], "dimensions": ["chanel"]}),
        422,
        "invalid_query",
    )
    assert {e["field"] for e in document["errors"]} == {"metrics.0", "dimensions.0"}
    assert "'opens'" in document["errors"][0]["message"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"grain": "year"}, "query.grain"),
        ({"from": "soon"}, "query.from"),
        ({"limit": "many"}, "query.limit"),
        ({"colour": "red"}, "query.colour"),
    ],
)
def test_parameter_is_named_when_it_is_wrong(
    api: httpx.Client, params: dict[str, str], field: str
) -> None:
    document = is_problem(
        api.get("/v1/metrics/sends", params=RANGE | params), 422, "invalid_request"
    )
    assert field in {e["field"] for e in document["errors"]}


@pytest.mark.parametrize(
    "params",
    [{"filter": "channel"}, {"dimensions": ",".join("abcdefghi")}, {"tenant": "x" * 101}],
)
def test_question_is_refused_when_a_part_breaks_its_limits(
    api: httpx.Client, params: dict[str, str]
) -> None:
    is_problem(api.get("/v1/metrics/sends", params=RANGE | params), 422, "invalid_query")


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "", '{"metrics": 7}'])
def test_body_is_refused_when_it_is_no_question(api: httpx.Client, body: str) -> None:
    answer = api.post("/v1/query", content=body, headers={"Content-Type": "application/json"})
    is_problem(answer, 422, "invalid_request")


def test_unknown_path_and_method_are_problems_when_asked(api: httpx.Client) -> None:
    is_problem(api.get("/v2/nothing"), 404, "not_found")
    is_problem(api.delete("/v1/metrics"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}, {"Authorization": ""}],
)
@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/metrics/sends"])
def test_asker_is_refused_when_the_token_is_not_right(
    api_url: str, path: str, headers: dict[str, str]
) -> None:
    answer = httpx.get(api_url + path, headers=headers, params=RANGE)
    is_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_service_pages_are_open_when_no_token_is_sent(api_url: str) -> None:
    assert httpx.get(api_url + "/health").json() == {"status": "ok"}
    ready = httpx.get(api_url + "/ready")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "checks": {"warehouse": "ok", "valkey": "ok"}}


def test_openapi_page_needs_no_other_host_when_opened(api_url: str) -> None:
    page = httpx.get(api_url + "/docs").text
    assert "swagger" in page.lower()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) >= 3
    for source in sources:
        assert source.startswith("/"), source
        assert httpx.get(api_url + source).status_code == 200
    document = httpx.get(api_url + "/openapi.json").json()
    assert {"/v1/metrics", "/v1/metrics/{metric}", "/v1/query", "/health", "/ready"} <= set(
        document["paths"]
    )
    assert "HTTPBearer" in document["components"]["securitySchemes"]


def test_other_origins_are_not_let_in_when_they_ask(api: httpx.Client) -> None:
    answer = api.get("/v1/metrics", headers={"Origin": "http://elsewhere.example"})
    assert not [h for h in answer.headers if h.startswith("access-control")]
    preflight = api.options(
        "/v1/query",
        headers={"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"},
    )
    is_problem(preflight, 405, "method_not_allowed")


def test_request_id_comes_back_when_given_and_is_made_when_not(api: httpx.Client) -> None:
    given = api.get("/health", headers={"X-Request-Id": "trace-12345678"})
    assert given.headers["x-request-id"] == "trace-12345678"
    forged = api.get("/health", headers={"X-Request-Id": "a b<script>"})
    assert re.fullmatch(r"[0-9a-f]{16}", forged.headers["x-request-id"])
    assert forged.headers["cache-control"] == "no-store"


def test_access_log_has_no_address_or_query_when_a_request_is_served(
    api: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="herald.api.access"):
        api.get("/v1/metrics/sends", params=RANGE | {"filter": "campaign:secret-campaign"})
        # written after the answer went out
        deadline = time.monotonic() + 5
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    entries = [r.message for r in caplog.records if r.name == "herald.api.access"]
    found = json.loads(entries[-1])
    assert found["route"] == "/v1/metrics/{metric}"
    assert found["status"] == 200
    assert "127.0.0.1" not in entries[-1]
    assert "secret-campaign" not in entries[-1]
    assert "httpx" not in entries[-1]


def test_figures_count_requests_and_questions_when_scraped(api: httpx.Client) -> None:
    for _ in range(2):
        api.get("/v1/metrics/sends", params=RANGE)
    time.sleep(0.1)  # counted after the answer went out
    text = api.get("/metrics").text
    assert re.search(
        r'herald_api_requests_total\{method="GET",route="/v1/metrics/\{metric\}",status="200"\} ',
        text,
    )
    assert 'herald_engine_questions_total{cache="process",outcome="ok",surface="api"}' in text


def test_start_is_refused_when_there_is_no_token(served: Settings) -> None:
    from pydantic import SecretStr

    bare = served.model_copy(
        update={"api": served.api.model_copy(update={"password": SecretStr("short")})}
    )
    with pytest.raises(SettingsError, match="HERALD_API__PASSWORD"):
        create_app(bare)


class Service:
    """`python -m api` as a process of its own."""

    def __init__(self, settings: Settings, port: int, log: Path, **more: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        environment = {**os.environ, **child_environment(settings), **more}
        environment["HERALD_API__PORT"] = str(port)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api"], cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    def wait_alive(self) -> None:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(self.url + "/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self.process.terminate()
        # uvicorn shuts down in order, then ends by the signal it was sent
        assert self.process.wait(20) in (0, -signal.SIGTERM)


def test_process_is_alive_but_not_ready_when_the_warehouse_is_down(
    served: Settings, free_port: Callable[[], int], tmp_path: Path
) -> None:
    down = served.warehouse.model_copy(update={"port": free_port()})
    settings = served.model_copy(update={"warehouse": down})
    service = Service(settings, free_port(), tmp_path / "api.log")
    try:
        service.wait_alive()
        ready = httpx.get(service.url + "/ready")
        assert ready.status_code == 503
        assert ready.json()["status"] == "not ready"
        token = settings.api.password.get_secret_value()
        answer = httpx.get(
            service.url + "/v1/metrics/sends",
            params=RANGE,
            headers={"Authorization": f"Bearer {token}"},
        )
        document = is_problem(answer, 503, "warehouse_down")
        assert "herald status" in document["detail"]
        assert answer.headers["retry-after"] == "1"
    finally:
        service.stop()


def test_limits_change_when_the_process_is_hung_up(
    served: Settings, free_port: Callable[[], int], tmp_path: Path
) -> None:
    service = Service(served, free_port(), tmp_path / "api.log")
    headers = {"Authorization": f"Bearer {served.api.password.get_secret_value()}"}
    secrets = served.state_dir / "secrets.env"
    before = secrets.read_text()

    def page() -> int:
        params = RANGE | {"dimensions": "campaign"}
        answer = httpx.get(service.url + "/v1/metrics/bounces", params=params, headers=headers)
        return len(answer.json()["rows"])

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, service.log.read_text()
            time.sleep(0.1)

    try:
        service.wait_alive()
        assert page() == 4
        secrets.write_text(before + "\nHERALD_ENGINE__PAGE_ROWS=2\n")
        service.process.send_signal(signal.SIGHUP)
        until(lambda: page() == 2)
        secrets.write_text(before + "\nHERALD_ENGINE__PAGE_ROWS=none\n")
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "reload refused" in service.log.read_text())
        assert "PAGE_ROWS" in service.log.read_text()
        assert page() == 2
    finally:
        secrets.write_text(before)
        service.stop()


def test_start_ends_with_one_message_when_settings_are_wrong(
    served: Settings, free_port: Callable[[], int], tmp_path: Path
) -> None:
    service = Service(served, free_port(), tmp_path / "api.log", HERALD_ENGINE__POOL_SIZE="lots")
    assert service.process.wait(40) == 2
    text = service.log.read_text()
    assert "HERALD_ENGINE__POOL_SIZE" in text
    assert "Traceback" not in text


def test_stream_ends_with_an_error_line_when_above_the_row_limit(
    served: Settings, free_port: Callable[[], int]
) -> None:
    own = served.model_copy(
        update={
            "api": served.api.model_copy(update={"port": free_port()}),
            "engine": served.engine.model_copy(update={"max_rows": 2, "max_read_rows": 1_000}),
        }
    )
    token = served.api.password.get_secret_value()
    with serve(own) as url:
        answer = httpx.post(
            url + "/v1/query/stream",
            json=BODY | {"dimensions": ["campaign"]},
            headers={"Authorization": f"Bearer {token}"},
        )
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line.get("campaign") for line in lines] == ["autumn", "banner", None]
    assert lines[-1]["error"]["code"] == "too_many_rows"
