"""A real Superset on a real warehouse: import, roles, numbers, and every chart in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from herald.cli.main import build_app
from herald.dashboards import browser, check_dashboards, import_assets, metric_value, normalise
from herald.dashboards.assets import ASSETS_DIR, Assets
from herald.dashboards.client import SupersetClient, SupersetError
from herald.dashboards.models import read_models
from herald.settings import ROOT, Settings, load_settings
from herald.warehouse.client import connect
from infra.local import valkey
from infra.local.platform import Platform
from infra.local.ports import free_ports
from infra.local.secrets import ensure_secrets

pytestmark = pytest.mark.timeout(600)
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
EVERY_ROW = [
    # channel, audience, sends, deliveries, bounces, unique opens, unique clicks
    ("email", "all", 1000, 0, 20, 400, 60),
    ("email", "human", 1000, 0, 20, 250, 45),
    ("email", "machine", 1000, 0, 20, 150, 15),
    ("push", "all", 500, 480, 0, 40, 40),
    ("push", "human", 500, 480, 0, 40, 40),
    ("push", "machine", 500, 480, 0, 0, 0),
]


def make_marts(client: Client) -> None:
    """The marts as their documentation says, with rows whose sums are known."""
    client.command("create database if not exists marts")
    models = read_models()
    for name, model in models.items():
        columns = ", ".join(f"`{c.name}` {c.data_type}" for c in model.columns.values())
        client.command(f"create table marts.{name} ({columns}) engine = MergeTree order by tuple()")
    for hour in (NOW, NOW - timedelta(days=15)):
        for channel, audience, sends, deliveries, bounces, opens, clicks in EVERY_ROW:
            row: dict[str, Any] = {
                "tenant_id": "acme", "campaign_id": "c1", "campaign_name": "Welcome",
                "channel": channel, "country": "DE", "device_class": "phone", "hour_at": hour,
                "sends": sends, "deliveries": deliveries, "bounces": bounces,
                "unique_opens": opens, "unique_clicks": clicks,
            }  # fmt: skip
            if audience == "all":
                people = next(r for r in EVERY_ROW if r[:2] == (channel, "human"))
                extra = {"unique_human_opens": people[5], "unique_human_clicks": people[6]}
                insert(client, "fct_engagement_hourly", row | extra)
            insert(client, "rpt_campaign_overview", row | {"audience": audience})
    for order, stage in enumerate(("targeted", "eligible", "attempted", "sent"), 1):
        insert(
            client,
            "fct_abort_funnel",
            {
                "anchor_date": NOW.date(),
                "stage": stage,
                "stage_order": order,
                "messages": 9 - order,
            },
        )
    insert(client, "rpt_pipeline_status", {"topic": "t", "lag": 7, "last_event_at": NOW})
    insert(
        client,
        "rpt_quality_checks",
        {"suite": "s", "outcome": "failed", "is_success": False, "checked_at": NOW},
    )


def insert(client: Client, table: str, row: dict[str, Any]) -> None:
    client.insert(f"marts.{table}", [list(row.values())], column_names=list(row))


@pytest.fixture(scope="module")
def superset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Superset with its stores and a warehouse of its own, so these marts are no one else's."""
    state_dir = tmp_path_factory.mktemp("superset")
    ensure_secrets(state_dir)
    ports = iter(free_ports(4))
    settings = load_settings(
        environment="test",
        state_dir=state_dir,
        warehouse={"port": next(ports)},
        postgres={"port": next(ports)},
        valkey={"port": next(ports)},
        superset={"port": next(ports), "workers": 1},
    )
    platform = Platform(settings, attached=True)
    try:
        platform.up(["warehouse", "superset"])
        make_marts(connect(settings.warehouse))
        import_assets(settings)
        yield settings
    finally:
        platform.down()


def test_import_changes_nothing_when_run_again(superset: Settings) -> None:
    with SupersetClient(superset) as client:
        before = normalise.render(client.export_assets())
    counts = import_assets(superset)
    with SupersetClient(superset) as client:
        after = normalise.render(client.export_assets())
        (rule,) = client.listed("rowlevelsecurity")
        assert (rule["filter_type"], rule["clause"]) == ("Base", "1 = 0")
        assert len(rule["tables"]) == counts["datasets"]
    assert before == after
    assert counts == {
        kind: len(list(Assets.read().of(kind)))
        for kind in ("databases", "datasets", "charts", "dashboards")
    }


def test_export_equals_the_committed_files(superset: Settings) -> None:
    with SupersetClient(superset) as client:
        exported = normalise.render(client.export_assets())

    assert exported == {
        path.relative_to(ASSETS_DIR).as_posix(): path.read_text(encoding="utf-8")
        for kind in ("charts", "dashboards")
        for path in (ASSETS_DIR / kind).glob("*.yaml")
    }


def test_metric_equals_the_rows_when_asked_with_filters(superset: Settings) -> None:
    assert metric_value(superset, "sends") == 3000
    assert metric_value(superset, "delivery_rate", {"channel": "email"}) == pytest.approx(0.98)
    assert metric_value(superset, "unique_open_rate", {"channel": "push"}) == pytest.approx(1 / 12)
    assert metric_value(superset, "unique_clicks__human") == 170
    assert metric_value(superset, "sends", {"channel": ["push", "sms"]}) == 1000
    assert metric_value(superset, "unique_open_rate", {"channel": "email"}) is None
    with SupersetClient(superset) as client:
        day = f"{NOW:%Y-%m-%dT00:00:00} : {NOW + timedelta(days=1):%Y-%m-%dT00:00:00}"
        assert client.metric_value("sends", time_range=day) == 1500


def test_audience_switches_opens_and_gives_no_number_when_none_is_chosen(
    superset: Settings,
) -> None:
    def opens(**filters: str) -> float | None:
        with SupersetClient(superset) as client:
            return client.metric_value("unique_opens", filters, table="rpt_campaign_overview")

    assert opens(audience="all") == 880
    assert opens(audience="human") == 580
    assert opens(audience="machine") == 300
    assert opens() is None  # 1,760 would be the sum of all three


def test_unknown_metric_is_refused_with_its_name(superset: Settings) -> None:
    with pytest.raises(SupersetError, match="sendz"):
        metric_value(superset, "sendz")
    with (
        SupersetClient(superset) as client,
        pytest.raises(SupersetError, match="no dataset 'fct_x'"),
    ):
        client.metric_value("sends", table="fct_x")


def test_sql_lab_reads_and_cannot_write(superset: Settings) -> None:
    with SupersetClient(superset) as client:
        rows = client.run_sql(
            "select channel, sum(sends) as n from fct_engagement_hourly group by 1 order by 1"
        )
        assert rows == [{"channel": "email", "n": 2000}, {"channel": "push", "n": 1000}]
        with pytest.raises(SupersetError):
            client.run_sql("create table marts.x (a Int8) engine = Memory")
        with pytest.raises(SupersetError):
            client.run_sql("select count() from raw.events")


def test_column_sync_sees_the_types_of_the_warehouse(superset: Settings) -> None:
    with SupersetClient(superset) as client:
        columns = client.refresh_columns("fct_deliverability_daily")
        assert columns["sent_date"] == "DATE"
        assert columns["sends"] == "UINT64"
        assert set(columns) == set(read_models()["fct_deliverability_daily"].columns)
        client.import_assets(Assets.read())


def test_roles_open_their_dashboards_only(superset: Settings) -> None:
    def sees(role: str) -> tuple[set[str], float | None]:
        with SupersetClient(superset) as admin:
            roles = {r["name"]: r["id"] for r in admin.listed("security/roles")}
            name = role.lower().replace(" ", "_")
            body = {
                "username": name, "first_name": role, "last_name": "x", "active": True,
                "email": f"{name}@localhost", "roles": [roles[role]], "password": "a-test-Pw-1",
            }  # fmt: skip
            admin.request("POST", "/api/v1/security/users/", json=body)
            admin.http.headers.pop("Authorization")
            admin.http.cookies.clear()
            admin.login(name, "a-test-Pw-1")
            slugs = {str(board["slug"]) for board in admin.listed("dashboard")}
            if role != "Analyst":
                return slugs, None
            body = {"metrics": ["sends"], "columns": [], "filters": [], "row_limit": 1}
            dataset = admin.dataset_id("fct_engagement_hourly")
            answer = admin.request(
                "POST",
                "/api/v1/chart/data",
                json={"datasource": {"id": dataset, "type": "table"}, "queries": [body]},
            )
            return slugs, answer["result"][0]["data"][0]["sends"]

    assert sees("Business user") == ({"campaign-overview"}, None)
    assert sees("Operator") == ({"campaign-overview", "pipeline-operator"}, None)
    assert sees("Analyst") == ({"campaign-overview", "pipeline-operator"}, 3000)


def test_base_rule_shows_no_row_when_a_role_is_not_named(superset: Settings) -> None:
    with SupersetClient(superset) as admin:
        role = admin.request("POST", "/api/v1/security/roles/", json={"name": "Stranger"})["id"]
        roles = {r["name"]: r["id"] for r in admin.listed("security/roles")}
        path = "/api/v1/security/roles/{}/permissions"
        held = admin.request("GET", path.format(roles["Analyst"]) + "/")["result"]
        admin.request(
            "POST", path.format(role), json={"permission_view_menu_ids": [h["id"] for h in held]}
        )
        admin.request(
            "POST",
            "/api/v1/security/users/",
            json={
                "username": "stranger", "first_name": "s", "last_name": "s", "active": True,
                "email": "s@localhost", "roles": [role], "password": "a-test-Pw-1",
            },
        )  # fmt: skip
        admin.http.headers.pop("Authorization")
        admin.http.cookies.clear()
        admin.login("stranger", "a-test-Pw-1")
        dataset = admin.dataset_id("fct_engagement_hourly")
        query = {"metrics": ["sends"], "columns": ["channel"], "filters": [], "row_limit": 10}
        answer = admin.request(
            "POST",
            "/api/v1/chart/data",
            json={"datasource": {"id": dataset, "type": "table"}, "queries": [query]},
        )
        assert answer["result"][0]["data"] == []


def test_dashboards_draw_every_chart_in_a_browser(superset: Settings, tmp_path: Path) -> None:
    boards = {board["slug"]: board for board in check_dashboards(superset, tmp_path)}

    assert boards.keys() == {"campaign-overview", "pipeline-operator"}
    for slug, board in boards.items():
        assert board["errors"] == []
        shown = Assets.read().dashboard(slug)["position"]
        assert board["charts"] == sum(1 for key in shown if key.startswith("CHART-"))
        assert not browser.is_blank(Path(board["screenshot"]).read_bytes())
        assert board["refused_hosts"] == []


def test_browser_tells_the_error_when_a_chart_cannot_be_drawn(
    superset: Settings, tmp_path: Path
) -> None:
    client = connect(superset.warehouse)
    client.command("rename table marts.rpt_pipeline_minutely to marts.hidden")
    # answers of the last minute are cached
    redis.Redis.from_url(valkey.url(superset.valkey, database=1)).flushdb()
    try:
        (board,) = browser.check_dashboards(superset, ["pipeline-operator"], tmp_path)
    finally:
        client.command("rename table marts.hidden to marts.rpt_pipeline_minutely")

    assert board.errors
    assert any("rpt_pipeline_minutely" in error for error in board.errors)


def test_commands_import_export_check_and_take_pictures(
    superset: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herald.cli.dashboards.load_settings", lambda: superset)
    run, app = CliRunner(), build_app()

    done = run.invoke(app, ["superset", "import", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["dashboards"] == 2
    done = run.invoke(app, ["superset", "export", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    done = run.invoke(app, ["superset", "check", "--out", str(tmp_path / "a"), "--json"])
    assert done.exit_code == 0, done.output
    assert [b["errors"] for b in json.loads(done.stdout)] == [[], []]
    done = run.invoke(app, ["superset", "screenshot", "--out", str(tmp_path / "b"), "--json"])
    assert done.exit_code == 0, done.output
    assert all(b["bytes"] < 300_000 for b in json.loads(done.stdout))
    for arguments in (["generate", "--check"], ["validate"]):
        assert run.invoke(app, ["superset", *arguments]).exit_code == 0


def test_login_says_who_was_refused(superset: Settings) -> None:
    wrong = superset.model_copy(
        update={"superset": superset.superset.model_copy(update={"user": "nobody"})}
    )
    with pytest.raises(SupersetError, match="401"), SupersetClient(wrong):
        pass
    with pytest.raises(browser.BrowserError, match="nobody"):
        browser.check_dashboards(wrong, ["campaign-overview"], ROOT / "var")


def test_client_says_that_superset_is_down() -> None:
    port = free_ports(1)[0]
    settings = load_settings(environment="test", superset={"port": port})
    with pytest.raises(SupersetError, match="is it up"), SupersetClient(settings):
        pass
