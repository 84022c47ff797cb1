"""The live read model and its stream, on real rollups, over a real uvicorn."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from herald.settings import Settings
from infra.local.ports import free_ports
from tests.data.rollups import Landed, event
from tests.integration.serving.conftest import serve

DEADLINE = 20.0
Snapshot = dict[str, Any]


@pytest.fixture(scope="module")
def landed(served: Settings) -> Iterator[Landed]:
    landed = Landed(served.warehouse, "live-test.events")
    yield landed
    landed.close()


@pytest.fixture(scope="module")
def live_settings(served: Settings) -> Settings:
    quick = {"poll_seconds": 0.1, "max_views": 6, "max_clients": 4}
    quick |= {"linger_seconds": 0.5, "queue_messages": 2}
    return served.model_copy(
        update={
            "live": served.live.model_copy(update=quick),
            "api": served.api.model_copy(update={"port": free_ports(1)[0]}),
        }
    )


@pytest.fixture(scope="module")
def live_url(live_settings: Settings) -> Iterator[str]:
    with serve(live_settings) as url:
        yield url


@pytest.fixture
def live(live_url: str, live_settings: Settings) -> Iterator[httpx.Client]:
    token = live_settings.api.password.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=live_url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    return request.node.name[5:50]


def _ticket(live: httpx.Client) -> str:
    return str(live.post("/v1/live/tickets").json()["ticket"])


def _address(live: httpx.Client) -> str:
    return str(live.base_url).replace("http", "ws").rstrip("/") + "/v1/live/ws"


@asynccontextmanager
async def _watch(
    live: httpx.Client, options: dict[str, Any] | None = None, **filters: str
) -> AsyncIterator[ClientConnection]:
    query = urlencode({**filters, "ticket": await asyncio.to_thread(_ticket, live)})
    async with connect(f"{_address(live)}?{query}", max_size=None, **(options or {})) as client:
        yield client


def _narrow_socket(url: httpx.URL) -> socket.socket:
    """A connection that holds little of what is sent to it."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    narrow.connect((url.host, url.port))
    narrow.setblocking(False)
    return narrow


async def _until(
    client: ClientConnection, wanted: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The first message that is wanted."""
    async with asyncio.timeout(DEADLINE):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if wanted(message):
                return message


def _poll(live: httpx.Client, wanted: Callable[[Snapshot], object], **filters: str) -> Snapshot:
    """The first snapshot that is wanted."""
    deadline = time.monotonic() + DEADLINE
    while True:
        response = live.get("/v1/live/snapshot", params=filters)
        assert response.status_code == 200, response.text
        snapshot: Snapshot = response.json()
        if wanted(snapshot):
            return snapshot
        assert time.monotonic() < deadline, f"last seen: {snapshot}"
        time.sleep(0.05)


def _kpi(snapshot: Snapshot, name: str) -> dict[str, Any]:
    return next(k for k in snapshot["kpis"] if k["name"] == name)


def _sends(count: float) -> Callable[[Snapshot], bool]:
    return lambda snapshot: (
        snapshot["type"] == "snapshot" and _kpi(snapshot, "sends")["value"] == count
    )


def _has_uniques(snapshot: Snapshot) -> bool:
    return bool(_kpi(snapshot, "unique_recipients")["value"])


def _now() -> datetime:
    return datetime.now(UTC)


def _send(tenant: str, at: datetime) -> list[bytes]:
    """Ten e-mails of spring and four push messages of taps, with what became of them."""
    email: dict[str, Any] = {"tenant": tenant, "campaign_id": "spring", "variant_id": "a"}
    push: dict[str, Any] = {"tenant": tenant, "campaign_id": "taps", "channel": "push"}
    push |= {"country": "FR", "platform": "android", "provider": "fcm"}
    mail, tap = range(10), range(100, 104)
    return [
        *(event(n, "targeted", at, **email) for n in mail),
        *(event(n, "attempted", at, **email) for n in mail),
        *(event(n, "sent", at, **email) for n in mail),
        *(event(n, "delivered", at, **email) for n in range(6)),
        *(event(n, "bounced", at, **email) for n in range(8, 10)),
        *(event(n, "opened", at, **email) for n in (0, 0, 1)),
        event(2, "opened", at, machine_open=True, **email),
        event(0, "clicked", at, **email),
        event(0, "converted", at, conversion_name="booking", revenue=20, **email),
        *(event(n, "sent", at, **push) for n in tap),
        *(event(n, "delivered", at, **push) for n in (100, 101, 102)),
        event(100, "opened", at, **push),
    ]


def test_snapshot_counts_what_landed_when_asked_for_a_window(
    live: httpx.Client, landed: Landed, tenant: str, writer: Client
) -> None:
    at = _now() - timedelta(seconds=1)
    landed.land(_send(tenant, at), token=tenant, landed_at=at)
    writer.command(
        "INSERT INTO raw.campaigns (tenant_id, campaign_id, name, updated_at) VALUES "
        f"('{tenant}', 'spring', 'Spring sale', now())"
    )
    page = _poll(live, lambda s: _sends(14)(s) and _has_uniques(s), tenant=tenant, window="15")
    values = {k["name"]: k["value"] for k in page["kpis"]}
    assert values["deliveries"] == 9
    # e-mail: sends without bounces, push: deliveries
    assert values["delivery_rate"] == (10 - 2 + 3) / 14
    assert values["bounce_rate"] == 2 / 14
    assert values["opens"] == 5
    assert values["unique_open_rate"] == (3 + 1) / 9
    assert values["unique_recipients"] == 14
    assert values["total_conversions"] == 1
    assert values["revenue"] == 20
    assert sum(_kpi(page, "sends")["spark"]) == 14
    assert [s["value"] for s in page["funnel"]] == [10, 10, 14, 9, 5, 1, 1]
    assert [(c["country"], c["sent"], c["opened"]) for c in page["countries"]] == [
        ("DE", 10, 4),
        ("FR", 4, 1),
    ]
    assert [(d["platform"], d["sent"]) for d in page["devices"]] == [("ios", 10), ("android", 4)]
    spring, taps = page["campaigns"]
    named = ("campaign_id", "campaign_name", "sent", "delivery_rate", "open_rate")
    assert [spring[n] for n in named] == ["spring", "Spring sale", 10, 8 / 10, 3 / 6]
    assert [taps[n] for n in named] == ["taps", None, 4, 3 / 4, 1 / 3]
    assert page["variants"] == []
    assert sum(map(sum, page["rates"]["by_channel"].values())) * 15 == pytest.approx(52, abs=1)
    assert set(page["rates"]["by_provider"]) == {"post", "fcm"}
    assert len(page["rates"]["buckets"]) == 60
    assert page["hours"] == [[at.weekday(), at.hour, 14]]
    assert datetime.fromisoformat(page["as_of"]) >= at - timedelta(milliseconds=1)
    assert page["stale_seconds"] >= 0
    assert page["problem"] is None
    assert (page["schema"], page["tenant"], page["window_minutes"]) == (1, tenant, 15)


def test_filters_and_audience_narrow_the_view_when_given(
    live: httpx.Client, landed: Landed, tenant: str
) -> None:
    landed.land(_send(tenant, _now()), token=tenant)
    people = _poll(
        live,
        lambda s: _sends(10)(s) and _has_uniques(s),
        tenant=tenant,
        campaign="spring",
        audience="human",
        window="1",
    )
    assert _kpi(people, "opens")["value"] == 3
    assert _kpi(people, "unique_open_rate")["value"] == 2 / 6
    assert _kpi(people, "deliveries")["value"] == 6
    assert [(v["variant_id"], v["sent"], v["open_rate"]) for v in people["variants"]] == [
        ("a", 10, 2 / 6)
    ]
    assert people["filters"] == {"campaign": "spring", "audience": "human"}
    machines = _poll(
        live,
        lambda s: _sends(10)(s) and _has_uniques(s),
        tenant=tenant,
        channel="email",
        audience="machine",
        window="60",
    )
    assert _kpi(machines, "opens")["value"] == 1
    assert _kpi(machines, "clicks")["value"] == 0
    every = _poll(live, lambda s: s["tenants"])
    assert tenant in {t["tenant"] for t in every["tenants"]}


def test_a_window_holds_only_its_minutes_and_compares_with_last_week(
    live: httpx.Client, landed: Landed, tenant: str
) -> None:
    now = _now()
    week_ago = now - timedelta(days=7)
    ages = {1: 20, 2: 240, 3: 800, 4: 3_300}
    values = [event(n, "sent", now - timedelta(seconds=s), tenant=tenant) for n, s in ages.items()]
    landed.land(values, token=tenant)
    # a week of events that landed when they happened; some before the window, some in it
    past = [event(n, "sent", week_ago - timedelta(minutes=8), tenant=tenant) for n in range(7, 12)]
    past += [event(20, "sent", week_ago - timedelta(hours=3), tenant=tenant)]
    landed.land(past, token=f"{tenant} past", landed_at=week_ago)
    for window, sent in {"1": 1, "5": 2, "15": 3, "60": 4}.items():
        page = _poll(live, _sends(sent), tenant=tenant, window=window)
        assert _kpi(page, "sends")["previous"] == (0 if window in {"1", "5"} else 5)
        assert page["window_minutes"] == int(window)


def test_previous_is_unknown_when_the_tenant_had_no_events_a_week_ago(
    live: httpx.Client, landed: Landed, tenant: str
) -> None:
    landed.land([event(1, "sent", _now(), tenant=tenant)], token=tenant)
    page = _poll(live, _sends(1), tenant=tenant, window="5")
    assert _kpi(page, "sends")["previous"] is None


async def test_a_landed_event_reaches_the_client_when_it_watches(
    live: httpx.Client, landed: Landed, tenant: str
) -> None:
    async with _watch(live, tenant=tenant, window="5") as client:
        first = await _until(client, _sends(0))
        await asyncio.to_thread(
            landed.land, [event(1, "sent", _now(), tenant=tenant)], token=tenant
        )
        second = await _until(client, _sends(1))
        late = _now() - timedelta(minutes=3)
        await asyncio.to_thread(
            landed.land, [event(2, "sent", late, tenant=tenant)], token=f"{tenant} late"
        )
        third = await _until(client, _sends(2))
    assert first["sequence"] < second["sequence"] < third["sequence"]
    async with _watch(live, tenant=tenant, window="5") as client:
        again = await _until(client, _sends(2))
    assert again["sequence"] >= third["sequence"]


async def test_a_client_moves_to_another_view_when_it_sends_filters(
    live: httpx.Client, landed: Landed, tenant: str
) -> None:
    await asyncio.to_thread(landed.land, _send(tenant, _now()), token=tenant)
    async with _watch(live, tenant=tenant, window="15") as client:
        await _until(client, _sends(14))
        await client.send(json.dumps({"type": "filters", "tenant": tenant, "country": "FR"}))
        moved = await _until(client, _sends(4))
        assert moved["filters"]["country"] == "FR"
        await client.send(json.dumps({"type": "filters", "window": 7}))
        refused = await _until(client, lambda m: m["type"] == "error")
        assert "window=7" in refused["message"]
        await _until(client, _sends(4))
        await client.send(json.dumps({"type": "ping"}))
        await _until(client, lambda m: m["type"] == "pong")
        for nonsense in ("{", "[]", '{"type": "query"}', json.dumps("x" * 5_000)):
            await client.send(nonsense)
            await _until(client, lambda m: m["type"] == "error")


async def test_an_alert_shows_when_it_fires(
    live: httpx.Client, writer: Client, tenant: str
) -> None:
    async with _watch(live, tenant=tenant) as client:
        assert (await _until(client, lambda m: m["type"] == "snapshot"))["alerts"] == []
        await asyncio.to_thread(
            writer.command,
            "INSERT INTO live.alerts (alert_id, tenant_id, rule, severity, status, group_key, "
            f"summary, opened_at, updated_at, version) VALUES ('{tenant}', '{tenant}', 'spike', "
            "'critical', 'firing', {'provider': 'post'}, 'Post bounces', now64(3), now64(3), 1)",
        )
        (alert,) = (await _until(client, lambda m: m.get("alerts")))["alerts"]
    assert (alert["summary"], alert["group_key"]) == ("Post bounces", {"provider": "post"})
    assert alert["opened_at"].endswith("Z")


async def test_a_socket_is_refused_when_its_ticket_is_used_or_missing(
    live: httpx.Client,
) -> None:
    address, ticket = _address(live), await asyncio.to_thread(_ticket, live)
    async with connect(f"{address}?ticket={ticket}") as client:
        await _until(client, lambda m: m["type"] == "snapshot")
    token = {"Authorization": live.headers["authorization"]}
    async with connect(address, additional_headers=token) as client:
        await _until(client, lambda m: m["type"] == "snapshot")
    for query in (f"?ticket={ticket}", "", "?ticket=made.up"):
        async with connect(address + query) as client:
            with pytest.raises(ConnectionClosed) as closed:
                await _until(client, lambda _m: False)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


def test_a_browser_reads_with_its_session_when_it_signed_in(
    live_url: str, live_settings: Settings
) -> None:
    token = live_settings.api.password.get_secret_value()
    with httpx.Client(base_url=live_url) as browser:
        assert browser.post("/v1/live/tickets").status_code == 401
        assert browser.post("/v1/live/session", json={"token": "wrong"}).status_code == 401
        answer = browser.post("/v1/live/session", json={"token": token})
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert token not in cookie
        assert browser.post("/v1/live/tickets").status_code == 200
        assert browser.get("/v1/live/snapshot").status_code == 200
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert browser.post("/v1/live/tickets", headers=foreign).status_code == 403
        assert browser.delete("/v1/live/session").status_code == 204
        assert browser.post("/v1/live/tickets").status_code == 401


async def test_views_and_clients_are_bounded_when_many_come(
    live: httpx.Client, tenant: str
) -> None:
    asks = [
        asyncio.to_thread(live.get, "/v1/live/snapshot", params={"tenant": f"{tenant}{n}"})
        for n in range(8)
    ]
    refused = [r for r in await asyncio.gather(*asks) if r.status_code == 503]
    assert len(refused) >= 2
    assert "HERALD_LIVE__MAX_VIEWS" in refused[0].json()["detail"]
    deadline = time.monotonic() + DEADLINE
    while (await asyncio.to_thread(live.get, "/v1/live/snapshot")).status_code != 200:
        assert time.monotonic() < deadline, "views that nobody watches are not given up"
        await asyncio.sleep(0.1)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            client = await stack.enter_async_context(_watch(live))
            await _until(client, lambda m: m["type"] == "snapshot")
        fifth = await stack.enter_async_context(_watch(live))
        with pytest.raises(ConnectionClosed) as closed:
            await _until(fifth, lambda _m: False)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


async def test_a_slow_client_is_dropped_and_others_go_on_when_it_reads_nothing(
    live: httpx.Client, landed: Landed, tenant: str
) -> None:
    # a wide view: each provider is a line of sixty numbers
    wide = [
        event(n, "sent", _now(), tenant=tenant, provider=f"provider-{n:04d}") for n in range(1_500)
    ]
    await asyncio.to_thread(landed.land, wide, token=tenant)
    before = await asyncio.to_thread(_dropped, live)
    options = {"compression": None, "sock": _narrow_socket(live.base_url)}
    async with _watch(live, options, tenant=tenant, window="60") as slow:
        await _until(slow, _sends(1_500))
        slow.transport.pause_reading()
        deadline = time.monotonic() + 2 * DEADLINE
        while await asyncio.to_thread(_dropped, live) == before:
            assert time.monotonic() < deadline, "the slow client was never dropped"
            await asyncio.sleep(0.1)
        slow.transport.abort()
    async with _watch(live, tenant=tenant, window="60") as quick:
        await _until(quick, _sends(1_500))


def _dropped(live: httpx.Client) -> float:
    text = live.get("/metrics").text
    name = "herald_live_dropped_clients_total "
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def test_the_view_says_so_when_the_warehouse_does_not_answer(served: Settings) -> None:
    warehouse, port = free_ports(2)
    away = served.model_copy(
        update={
            "warehouse": served.warehouse.model_copy(update={"port": warehouse}),
            "api": served.api.model_copy(update={"port": port}),
        }
    )
    token = served.api.password.get_secret_value()
    with serve(away) as url, httpx.Client(base_url=url, timeout=30) as client:
        page = client.get("/v1/live/snapshot", headers={"Authorization": f"Bearer {token}"}).json()
    assert "does not answer" in page["problem"]
    assert page["as_of"] is None
    assert page["stale_seconds"] is None
    assert _kpi(page, "sends")["value"] == 0
