"""A warehouse and a Valkey of their own, with marts made of hand-written messages.

Other suites let dbt build the marts of the shared warehouse; these tables would be in its way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from clickhouse_connect.driver.client import Client

from api.app import create_app
from herald.engine.engine import AnalyticsEngine
from herald.settings import Settings
from herald.warehouse.client import connect
from infra.local.platform import Platform
from infra.local.ports import free_ports
from infra.local.secrets import ensure_secrets
from tests.data.marts import add_messages, build_marts, message


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


@contextmanager
def own_platform(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Warehouse and Valkey on ports and a folder of their own; gives the settings to reach them."""
    state = tmp_path_factory.mktemp("serving")
    ensure_secrets(state)
    warehouse, valkey, api = free_ports(3)
    own = settings.model_copy(
        update={
            "state_dir": state,
            "warehouse": settings.warehouse.model_copy(update={"port": warehouse}),
            "valkey": settings.valkey.model_copy(update={"port": valkey}),
            "api": settings.api.model_copy(update={"port": api}),
        }
    )
    platform = Platform(own, attached=True)
    try:
        platform.up(["warehouse", "valkey"])
        yield platform.settings
    finally:
        platform.down()


@contextmanager
def serve(settings: Settings) -> Iterator[str]:
    """The API under a real uvicorn in this process; gives its address."""
    config = uvicorn.Config(
        create_app(settings, reload=lambda: settings),
        host="127.0.0.1",
        port=settings.api.port,
        access_log=False,
        log_config=None,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "uvicorn ended while it started"
        assert time.monotonic() < deadline, "uvicorn did not start within 20 s"
        time.sleep(0.02)
    try:
        yield settings.api.url
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a platform whose marts hold the messages below."""
    with own_platform(settings, tmp_path_factory) as own:
        client = connect(own.warehouse)
        build_marts(client)
        fill(client)
        client.close()
        yield own


@pytest.fixture(scope="session")
def writer(served: Settings) -> Iterator[Client]:
    client = connect(served.warehouse)
    yield client
    client.close()


@pytest.fixture
def engines(served: Settings) -> Iterator[Callable[..., AnalyticsEngine]]:
    """Makes engines with other limits: `engines(page_rows=2)`; closes them at the end."""
    made: list[AnalyticsEngine] = []

    def make(*, base: Settings = served, surface: str = "test", **limits: int) -> AnalyticsEngine:
        own = base.model_copy(update={"engine": base.engine.model_copy(update=limits)})
        made.append(AnalyticsEngine(own, surface=surface))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture(scope="session")
def api_url(served: Settings) -> Iterator[str]:
    with serve(served) as url:
        yield url


@pytest.fixture
def api(api_url: str, served: Settings) -> Iterator[httpx.Client]:
    """A client with the token."""
    token = served.api.password.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=api_url, headers=headers, timeout=30) as client:
        yield client


def fill(client: Client) -> None:
    """Two tenants. acme on 1 and 2 November: e-mail of two campaigns, push, one in-app message."""
    sent = ("targeted", "eligible", "attempted", "sent")
    seen = (*sent, "delivered", "opened", "human_opened")
    spring = {"campaign_id": "spring", "campaign_name": "Spring", "channel": "email"}
    autumn = {"campaign_id": "autumn", "campaign_name": "Autumn", "channel": "email"}
    tapped = {"campaign_id": "taps", "campaign_name": "Taps", "channel": "push"}
    add_messages(
        client,
        [
            message("s1", *seen, at=at(1, 9, 15), country="DE", cost=1, **spring),
            message(
                *("s2", *seen, "clicked", "human_clicked", "converted"),
                **{"at": at(1, 9, 45), "country": "FR", "revenue": 30, "cost": 1, **spring},
            ),
            message("s3", *sent, "bounced", at=at(1, 10), country="DE", cost=1, **spring),
            message(
                *("s4", *sent, "delivered", "opened", "machine_opened"),
                **{"at": at(2, 9), "country": "DE", "cost": 1, "user_id": "user of s1", **spring},
            ),
            message("s5", "targeted", "aborted", at=at(1, 9), country="DE", **spring),
            message("a1", *sent, "delivered", at=at(1, 23, 30), country="", **autumn),
            message(
                *("p1", *sent, "delivered", "influenced_opened"),
                **{"at": at(1, 12), "country": "IN", "platform": "ios", **tapped},
            ),
            message("p2", *seen, at=at(2, 12), country="IN", platform="android", **tapped),
            message(
                *("i1", "targeted", "impressed", "converted"),
                at=at(1, 8),
                channel="in_app",
                campaign_id="banner",
                revenue=5,
            ),
        ],
        later_hours=30,
    )
    add_messages(
        client, [message("g1", *seen, at=at(1, 9), tenant_id="globex", campaign_id="spring")]
    )
