"""The live page in a real Chromium, fed by a real broker, landing job, warehouse and API."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from herald.alerts.model import Alert
from herald.alerts.store import WarehouseStore
from herald.dashboards.browser import open_browser
from herald.rehearsal.pictures import sign_in
from herald.rehearsal.send import Plan, Rehearsal, campaign_records
from herald.settings import ROOT, Settings
from infra.local.platform import Platform

pytestmark = pytest.mark.timeout(600)
TENANT = "page-test"
SOON = 60_000
AXE = ROOT / "api" / "live_page" / "node_modules" / "axe-core" / "axe.min.js"
expect.set_options(timeout=SOON)


class Send:
    """Produces rehearsed events of the last minute and knows how many of each there are."""

    def __init__(self, settings: Settings, warehouse: Client) -> None:
        self._warehouse = warehouse
        self._topic = settings.kafka.topics.events
        self._producer = Producer({"bootstrap.servers": settings.kafka.servers})
        self._rehearsal = Rehearsal(Plan(TENANT, rate=40))
        self._until = int(time.time() * 1_000) - 45_000
        self.counts: Counter[str] = Counter()
        for key, value in campaign_records(TENANT, self._until):
            self._producer.produce(settings.kafka.topics.campaigns, value=value, key=key)

    def more(self, seconds: int) -> None:
        """The next seconds of the send, which end before now."""
        start, self._until = self._until, self._until + seconds * 1_000
        for _, value in self._rehearsal.between(start, self._until):
            self._producer.produce(self._topic, value=value)
            self.counts[orjson.loads(value)["event_type"].split(".")[1]] += 1
        assert self._producer.flush(30) == 0

    def wait_until_landed(self) -> None:
        """Until every event is in the warehouse; the first batch of a new job takes its time."""
        count = f"SELECT count() FROM raw.events WHERE tenant_id = '{TENANT}'"
        deadline = time.monotonic() + 180
        while (landed := self._warehouse.query(count).result_rows[0][0]) < self.counts.total():
            assert time.monotonic() < deadline, f"{landed} of {self.counts.total()} landed"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def running(platform: Platform, warehouse: Client) -> Iterator[Platform]:
    platform.up(["landing", "api"])
    yield platform
    platform.stop("api")
    platform.stop("landing")


@pytest.fixture(scope="module")
def send(running: Platform, warehouse: Client) -> Send:
    send = Send(running.settings, warehouse)
    send.more(25)
    send.wait_until_landed()
    return send


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def problems() -> list[str]:
    """What the browser complained of, over all tests of this file."""
    return []


@pytest.fixture
def context(browser: Browser, problems: list[str]) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, timezone_id="UTC")

    def listen(page: Page) -> None:
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if "Content Security" in m.text else 0)

    context.on("page", listen)
    yield context
    context.close()


@pytest.fixture
def live(context: BrowserContext, running: Platform, send: Send) -> Page:
    """The page, signed in, with the figures of the send."""
    page = context.new_page()
    sign_in(page, running.settings, f"tenant={TENANT}&window=60")
    expect(page.locator("#panel-campaigns tbody tr").first).to_be_visible()
    return page


def kpi(page: Page, name: str) -> Locator:
    return page.locator(f".kpi[data-key={name}]")


def stage(page: Page, name: str) -> Locator:
    return page.locator(f".funnel li[data-key={name}]")


def badge(page: Page) -> Locator:
    return page.locator(".badge")


def grouped(count: int) -> str:
    return f"{count:,}"


def test_events_appear_on_the_page_when_they_are_produced(live: Page, send: Send) -> None:
    expect(stage(live, "sent")).to_have_attribute("title", grouped(send.counts["sent"]))
    before = send.counts["sent"]

    send.more(10)

    assert send.counts["sent"] > before
    send.wait_until_landed()
    for name in ("targeted", "sent", "delivered", "opened", "clicked", "converted"):
        expect(stage(live, name)).to_have_attribute("title", grouped(send.counts[name]))
    expect(kpi(live, "sends")).to_have_attribute("title", grouped(send.counts["sent"]))
    expect(live.locator("#panel-rate-channel .legend")).to_contain_text("E-mail")
    expect(live.locator("#panel-devices")).to_contain_text("Android")
    expect(badge(live)).to_have_text(re.compile("Live|Quiet"))
    expect(live.locator(".badge-detail")).to_contain_text(" ago")


def test_way_down_is_in_the_address_and_the_back_button_goes_up(live: Page) -> None:
    campaign = live.get_by_role("button", name="Autumn sale: last chance")
    campaign.click()
    expect(live).to_have_url(re.compile("campaign=autumn-last-chance"))
    expect(live.get_by_role("heading", name="Variants")).to_be_visible()

    live.locator("#panel-campaigns").get_by_role("button", name="control", exact=True).click()
    live.get_by_role("button", name="Countries as a table").click()
    live.locator("#panel-map").get_by_role("button", name="United States").click()

    trail = live.get_by_role("navigation", name="Level of detail")
    expect(trail.get_by_role("listitem")).to_have_text(
        ["All tenants", TENANT, "Autumn sale: last chance", "Variant control", "United States"]
    )
    shared = live.url
    assert "variant=control" in shared
    assert "country=US" in shared

    live.go_back()
    live.go_back()
    expect(trail.get_by_role("listitem")).to_have_text(
        ["All tenants", TENANT, "Autumn sale: last chance"]
    )
    trail.get_by_role("button", name=TENANT).click()
    expect(live.get_by_role("heading", name="Campaigns")).to_be_visible()

    live.goto(shared)
    expect(trail.get_by_role("listitem")).to_have_count(5)
    expect(live.locator("main")).to_have_attribute("data-current", "true")


def test_machine_opens_are_told_from_those_of_people(live: Page) -> None:
    def opened() -> int:
        expect(live.locator("main")).to_have_attribute("aria-busy", "false")
        expect(live.locator("main")).to_have_attribute("data-current", "true")
        return int((stage(live, "opened").get_attribute("title") or "").replace(",", ""))

    everybody = opened()
    live.get_by_text("Human", exact=True).click()
    expect(live).to_have_url(re.compile("audience=human"))
    expect(stage(live, "opened")).not_to_have_attribute("title", grouped(everybody))
    people = opened()
    live.get_by_text("Machine", exact=True).click()
    expect(stage(live, "opened")).not_to_have_attribute("title", grouped(people))
    assert opened() + people == everybody


def test_page_reconnects_and_recovers_when_the_api_is_killed(
    live: Page, running: Platform, send: Send
) -> None:
    sequence = live.get_attribute("main", "data-sequence")

    running.stop("api")
    try:
        expect(badge(live)).to_have_text("Reconnecting")
        expect(live.locator("main")).to_have_attribute("data-current", "false")
        expect(live.locator(".badge-detail")).to_contain_text("trying again")
        expect(live.locator(".badge-detail")).to_contain_text("data as of")
        shown = grouped(send.counts["sent"])
        expect(stage(live, "sent")).to_have_attribute("title", shown)
        send.more(5)
        send.wait_until_landed()
    finally:
        running.up(["api"])

    expect(badge(live)).to_have_text(re.compile("Live|Quiet"))
    expect(live.locator("main")).not_to_have_attribute("data-sequence", sequence or "")
    expect(stage(live, "sent")).to_have_attribute("title", grouped(send.counts["sent"]))


def alert(**changes: Any) -> Alert:
    now = datetime.now(UTC)
    values = {
        "alert_id": "page-test-1",
        "tenant_id": TENANT,
        "rule": "provider_silent",
        "kind": "provider_silence",
        "severity": "critical",
        "status": "firing",
        "group_key": {"channel": "email", "provider": "sendgrid"},
        "value": 0.0,
        "threshold": 1.0,
        "baseline": 40.0,
        "events": 120,
        "window_start": now - timedelta(minutes=20),
        "window_end": now,
        "opened_at": now - timedelta(minutes=2),
        "updated_at": now,
        "resolved_at": None,
        "summary": "email by sendgrid: nothing is heard of it",
        "runbook": "docs/runbooks/alerts-provider_silence.md",
        "owner": "messaging-platform",
        "acknowledged_by": "",
        "silenced_until": None,
        "version": 1,
    }
    return Alert.model_validate(values | changes)


def test_alert_shows_is_spoken_and_is_acknowledged_by_a_click(
    live: Page, warehouse: Client
) -> None:
    store = WarehouseStore(warehouse)
    panel = live.locator("#panel-alerts")
    expect(panel).to_contain_text("Nothing is firing.")

    store.put([alert()])

    row = panel.get_by_role("listitem").filter(has_text="nothing is heard of it")
    expect(row).to_contain_text("Critical")
    expect(row).to_contain_text("messaging-platform")
    expect(live.locator("[aria-live=assertive]")).to_contain_text("Critical alert")
    expect(live).to_have_title(re.compile(r"^\(1\) "))

    row.get_by_role("button", name=re.compile("Acknowledge")).click()

    expect(row).to_contain_text("acknowledged by")
    expect(row.get_by_role("button")).to_be_hidden()
    assert store.get("page-test-1").status == "acknowledged"
    store.put([alert(status="resolved", resolved_at=datetime.now(UTC))])
    expect(panel).to_contain_text("Nothing is firing.")


def focused(page: Page) -> str:
    return str(
        page.evaluate(
            "() => { const e = document.activeElement;"
            " return e.getAttribute('aria-label') || e.textContent.trim() || e.value || e.id; }"
        )
    )


def tab_until(page: Page, wanted: Callable[[str], bool], most: int = 60) -> list[str]:
    walked: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        walked.append(focused(page))
        if wanted(walked[-1]):
            return walked
    raise AssertionError(f"not reached in {most} steps: {walked}")


def test_everything_is_reached_and_worked_by_keys(live: Page) -> None:
    live.evaluate("() => document.activeElement.blur()")
    walked = tab_until(live, lambda name: name == "Autumn sale: last chance")
    assert walked[0] == "Skip to the figures"
    order = [walked.index(name) for name in ("Arrange", "Sign out", TENANT, "Sent")]
    assert order == sorted(order)

    live.keyboard.press("Enter")
    expect(live).to_have_url(re.compile("campaign=autumn-last-chance"))
    live.go_back()
    expect(live).not_to_have_url(re.compile("campaign="))

    live.get_by_role("radio", name="60 min").focus()
    live.keyboard.press("ArrowLeft")
    expect(live).to_have_url(re.compile("window=15|(?<!window=60)$"))
    expect(live.get_by_role("radio", name="15 min")).to_be_checked()

    live.get_by_role("button", name="Rate by channel as a table").focus()
    live.keyboard.press("Space")
    expect(live.locator("#panel-rate-channel table")).to_be_visible()
    expect(live.locator("#panel-rate-channel thead")).to_contain_text("E-mail")


def test_layout_is_arranged_by_keys_kept_and_reset(live: Page) -> None:
    def first_row() -> list[str]:
        return live.eval_on_selector_all(
            ".grid-stack-item", "all => all.map(e => e.getAttribute('gs-id')).slice(0, 4)"
        )

    assert first_row() == ["kpis", "funnel", "alerts", "campaigns"]
    live.get_by_role("button", name="Arrange").click()
    handle = live.get_by_role("button", name="Move Alerts")
    handle.focus()
    for _ in range(3):
        handle.press("ArrowUp")
    for _ in range(8):
        handle.press("ArrowLeft")
    expect(live.locator("[aria-live=polite]")).to_contain_text("Alerts: column 1, row 1")
    live.get_by_role("button", name="Done").click()
    assert first_row()[0] == "alerts"

    live.reload()
    expect(live.locator("#panel-campaigns tbody tr").first).to_be_visible()
    assert first_row()[0] == "alerts"

    live.get_by_role("button", name="Arrange").click()
    live.get_by_role("button", name="Reset layout").click()
    assert first_row() == ["kpis", "funnel", "alerts", "campaigns"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390)])
def test_no_rule_of_accessibility_is_broken(live: Page, scheme: Any, width: int) -> None:
    live.set_viewport_size({"width": width, "height": 900})
    live.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    live.get_by_role("button", name="Countries as a table").click()
    expect(live.locator("main")).to_have_attribute("data-current", "true")
    live.evaluate(AXE.read_text())
    found = live.evaluate(
        "() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})"
    )
    broken = [
        f"{rule['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
    assert broken == []
    assert len(found["passes"]) > 20
    assert live.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_wrong_token_is_refused_and_signing_out_ends_the_session(
    context: BrowserContext, running: Platform, send: Send
) -> None:
    page = context.new_page()
    page.goto(f"{running.settings.api.url}/live/?tenant={TENANT}")
    page.fill("#token", "not-the-token-of-the-api")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()

    page.fill("#token", running.settings.api.password.get_secret_value())
    page.keyboard.press("Enter")
    expect(page.locator("main[data-sequence]")).to_be_visible()
    (cookie,) = context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert running.settings.api.password.get_secret_value() not in cookie["value"]

    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#token")).to_be_visible()
    page.reload()
    expect(page.locator("#token")).to_be_visible()


def test_pictures_are_taken_by_command(
    herald_environment: dict[str, str], send: Send, tmp_path: Path
) -> None:
    herald = [sys.executable, "-m", "herald.cli.main", "live", "screenshots", "--json"]
    options = ["--tenant", TENANT, "--scene", "phone", "--out", str(tmp_path)]
    done = subprocess.run(
        [*herald, *options], env=herald_environment, cwd=ROOT, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (picture,) = orjson.loads(done.stdout)
    assert 10_000 < picture["bytes"] <= 300_000
    assert (tmp_path / "live-phone.png").stat().st_size == picture["bytes"]
    assert re.search("Live|Quiet", picture["state"])


def test_rehearsal_is_sent_and_counted_by_command(
    herald_environment: dict[str, str], live: Page
) -> None:
    herald = [sys.executable, "-m", "herald.cli.main", "live", "rehearse", "--json"]
    options = ["--tenant", "page-rehearsed", "--rate", "200", "--seconds", "2"]
    done = subprocess.run(
        [*herald, *options, "--past-minutes", "0.2", "--history-days", "1"],
        env=herald_environment,
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    produced = orjson.loads(done.stdout)
    assert produced["history"] > produced["past"] > 500
    assert produced["live"] > 0

    live.get_by_role("button", name="All tenants").click()

    expect(live.get_by_role("heading", name="Tenants")).to_be_visible()
    live.locator("#panel-campaigns").get_by_role("button", name="page-rehearsed").click()
    expect(live).to_have_url(re.compile("tenant=page-rehearsed"))
    expect(stage(live, "targeted")).to_have_attribute("title", re.compile("[1-9]"))


def test_nothing_broke_the_policy_or_threw(problems: list[str]) -> None:
    assert problems == []
