"""Errors nobody foresaw, as problem documents."""

from __future__ import annotations

import logging

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api import problems
from api.telemetry import RequestTelemetry


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)
    app.add_middleware(RequestTelemetry, registry=CollectorRegistry())

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the password is hunter2")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://herald")


async def test_error_tells_nothing_of_the_inside_when_unforeseen(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"]
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text
