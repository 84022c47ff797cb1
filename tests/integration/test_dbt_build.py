"""dbt on a real warehouse: numbers of hand-written events, run twice, late data, full refresh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from clickhouse_connect.driver.client import Client

from herald.metrics.registry import METRICS
from herald.settings import Settings
from herald.warehouse.dbt import run_dbt

TENANT = "dbt-build"
NO_TESTS = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
FACTS = {
    "fct_messages": ("message_id",),
    "fct_engagement_hourly": (
        "campaign_id", "variant_id", "channel", "country", "platform", "device_class", "hour_at",
    ),
    "fct_activity_hourly": (
        "campaign_id", "variant_id", "channel", "country", "platform", "device_class", "hour_at",
    ),
    "fct_campaign_performance": ("campaign_id", "variant_id", "channel", "sent_date"),
    "fct_deliverability_daily": (
        "sent_date", "channel", "provider", "mailbox_provider", "ip_pool",
    ),
    "fct_abort_funnel": (
        "anchor_date", "campaign_id", "variant_id", "channel", "stage", "abort_reason",
    ),
    "dim_campaigns": ("campaign_id", "valid_from"),
}  # fmt: skip

Rows = dict[tuple[Any, ...], dict[str, Any]]


class Raw:
    """Writes hand-written rows the way landing does: one insert, one landed_at, new offsets."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.offset = 0

    def events(self, *events: Mapping[str, Any]) -> None:
        landed_at = datetime.now(UTC)
        rows = []
        for event in events:
            self.offset += 1
            channel, _, action = event["event_type"].partition(".")
            identity = f"{event.get('message_id', event.get('user_id'))} {event['event_type']}"
            rows.append(
                {
                    "event_id": uuid5(NAMESPACE_URL, f"{identity} {event['occurred_at']}"),
                    "tenant_id": TENANT,
                    "channel": channel,
                    "action": action,
                    "_topic": "dbt-build",
                    "_partition": 0,
                    "_offset": self.offset,
                    "landed_at": landed_at,
                    **event,
                }
            )
        names = sorted({name for row in rows for name in row})
        defaults = {
            "is_holdout": False, "machine_open": False, "revenue": None, "cost": None,
        }  # fmt: skip
        self.client.insert(
            "raw.events",
            [[row.get(name, defaults.get(name, "")) for name in names] for row in rows],
            column_names=names,
        )

    def campaigns(self, *versions: Mapping[str, Any]) -> None:
        rows = []
        for version in versions:
            self.offset += 1
            rows.append(
                {
                    "tenant_id": TENANT,
                    "campaign_id": "c-mail",
                    "primary_conversion": "purchase",
                    "conversion_window_hours": 24,
                    "fixed_cost": Decimal(0),
                    "_offset": self.offset,
                    "landed_at": datetime.now(UTC),
                    **version,
                }
            )
        names = list(rows[0])
        self.client.insert(
            "raw.campaigns", [[row[n] for n in names] for row in rows], column_names=names
        )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def mail(message_id: str, action: str, when: str, **more: Any) -> dict[str, Any]:
    return {
        "event_type": f"email.{action}",
        "occurred_at": at(when),
        "message_id": message_id,
        "user_id": f"user of {message_id}",
        "campaign_id": "c-mail",
        "campaign_name": "Autumn",
        "variant_id": "A",
        "country": "DE",
        "mailbox_provider": "gmail",
        **more,
    }


def push(message_id: str, action: str, when: str) -> dict[str, Any]:
    return {
        "event_type": f"push.{action}",
        "occurred_at": at(when),
        "message_id": message_id,
        "user_id": f"user of {message_id}",
        "campaign_id": "c-push",
        "variant_id": "A",
    }


def session(message_id: str, when: str) -> dict[str, Any]:
    return {
        "event_type": "app.session_started",
        "occurred_at": at(when),
        "user_id": f"user of {message_id}",
    }


FIRST_EVENTS = (
    mail("mail-1", "targeted", "2026-11-01 10:58:00"),
    mail("mail-1", "attempted", "2026-11-01 10:59:00"),
    mail("mail-1", "sent", "2026-11-01 10:59:59", cost=Decimal("0.25")),
    mail("mail-1", "delivered", "2026-11-01 11:00:01"),
    mail("mail-1", "opened", "2026-11-01 11:30:00", machine_open=True),
    mail("mail-1", "opened", "2026-11-01 12:00:00"),
    mail("mail-1", "clicked", "2026-11-01 12:01:00", link_id="l1"),
    mail("mail-1", "converted", "2026-11-01 12:30:00", conversion_name="purchase",
         revenue=Decimal("25.5")),
    mail("mail-2", "sent", "2026-11-01 10:30:00", cost=Decimal("0.25")),
    mail("mail-2", "bounced", "2026-11-01 10:31:00", failure_class="hard"),
    mail("mail-3", "targeted", "2026-11-01 10:00:00", is_holdout=True),
    mail("mail-3", "aborted", "2026-11-01 10:00:00", failure_reason="holdout", is_holdout=True),
    mail("mail-4", "sent", "2026-10-25 08:15:00"),
    mail("mail-4", "delivered", "2026-10-25 08:15:02"),
    push("push-1", "sent", "2026-11-02 09:50:00"),
    session("push-1", "2026-11-02 10:05:00"),
    push("push-2", "delivered", "2026-11-03 11:00:05"),
)  # fmt: skip
REDELIVERED = mail("mail-1", "clicked", "2026-11-01 12:01:00", link_id="l1")
LATE_EVENTS = (
    mail("mail-4", "opened", "2026-10-26 09:00:00"),
    push("push-2", "sent", "2026-11-03 10:59:58"),
    session("push-1", "2026-11-02 09:55:00"),
    REDELIVERED,
)


class Marts:
    """What dbt left, by mart and grain, at one moment."""

    def __init__(self, client: Client) -> None:
        self.rows: dict[str, Rows] = {}
        for table, grain in FACTS.items():
            columns = _columns(client, table)
            shown = [
                f"finalizeAggregation({name}) as {name}" if name.endswith("_state")
                else f"arraySort({name}) as {name}" if name == "activity_hours" else name
                for name in columns
            ]  # fmt: skip
            found = client.query(
                f"select {', '.join(shown)} from marts.{table} where tenant_id = '{TENANT}'"
            )
            records = [
                dict(zip(found.column_names, map(_aware, row), strict=True))
                for row in found.result_rows
            ]
            self.rows[table] = {tuple(r[name] for name in grain): r for r in records}
            assert len(self.rows[table]) == len(records), f"{table} breaks its grain"

    def one(self, table: str, **where: Any) -> dict[str, Any]:
        found = [
            row
            for row in self.rows[table].values()
            if all(row[name] == value for name, value in where.items())
        ]
        assert len(found) == 1, f"{table} {where}: {len(found)} rows"
        return found[0]

    def changed(self, table: str, other: Marts) -> set[tuple[Any, ...]]:
        mine, theirs = self.rows[table], other.rows[table]
        return {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)}


def _aware(value: Any) -> Any:
    """The client gives times in UTC without saying so."""
    naive = isinstance(value, datetime) and value.tzinfo is None
    return value.replace(tzinfo=UTC) if naive else value


def _columns(client: Client, table: str) -> list[str]:
    found = client.query(
        "select name from system.columns where database = 'marts' and table = %(table)s",
        parameters={"table": table},
    )
    return [row[0] for row in found.result_rows]


def dbt(settings: Settings, *args: str) -> str:
    finished = run_dbt(settings, args, capture=True)
    assert finished.returncode == 0, finished.stdout[-6000:]
    return finished.stdout


@pytest.fixture(scope="module")
def states(warehouse: Client, settings: Settings) -> Iterator[dict[str, Marts]]:
    """The marts after each run: first, second (nothing new), late, rebuilt."""
    raw = Raw(warehouse)
    states: dict[str, Marts] = {}
    raw.campaigns(
        {"updated_at": at("2026-10-01"), "status": "draft", "name": "Autumn"},
        {"updated_at": at("2026-10-02"), "status": "active", "name": "Autumn"},
    )
    raw.events(*FIRST_EVENTS)
    raw.events(REDELIVERED)
    dbt(settings, "build", "--full-refresh")
    states["first"] = Marts(warehouse)
    dbt(settings, "build", *NO_TESTS)
    states["second"] = Marts(warehouse)
    raw.events(*LATE_EVENTS)
    raw.campaigns(
        {"updated_at": at("2026-11-05"), "status": "paused", "name": "Autumn"},
        {"updated_at": at("2026-11-06"), "status": "active", "name": "Autumn",
         "conversion_window_hours": 1},
    )  # fmt: skip
    dbt(settings, "build", "--exclude-resource-type", "unit_test")
    states["late"] = Marts(warehouse)
    dbt(settings, "build", "--full-refresh", *NO_TESTS)
    states["rebuilt"] = Marts(warehouse)
    yield states
    for table in ("events", "campaigns"):
        warehouse.command(
            f"alter table raw.{table} delete where tenant_id = '{TENANT}'",
            settings={"mutations_sync": 2},
        )


def test_life_cycle_is_one_row_when_events_of_a_message_landed(states: dict[str, Marts]) -> None:
    row = states["first"].one("fct_messages", message_id="mail-1")
    assert row["anchor_at"] == at("2026-11-01 10:59:59")
    assert (row["opens"], row["human_opens"], row["machine_opens"]) == (2, 1, 1)
    assert (row["is_opened"], row["is_human_opened"], row["is_machine_opened"]) == (
        True, True, False,
    )  # fmt: skip
    assert (row["is_converted"], row["conversions"]) == (True, 1)
    assert (row["revenue"], row["cost"]) == (Decimal("25.5"), Decimal("0.25"))
    assert row["first_human_opened_at"] == at("2026-11-01 12:00:00")


def test_redelivered_event_counts_once_when_it_landed_twice(states: dict[str, Marts]) -> None:
    for name in ("first", "late", "rebuilt"):
        assert states[name].one("fct_messages", message_id="mail-1")["clicks"] == 1


def test_hour_of_the_send_counts_all_that_followed(states: dict[str, Marts]) -> None:
    row = states["first"].one("fct_engagement_hourly", channel="email", hour_at=_hour("11-01 10"))
    assert (row["sends"], row["bounces"], row["targeted"], row["aborts"]) == (2, 1, 2, 1)
    assert (row["opens"], row["unique_human_opens"], row["clicks"]) == (2, 1, 1)
    assert (row["revenue"], row["cost"]) == (Decimal("25.5"), Decimal("0.5"))
    assert row["unique_recipients_state"] == 2


def test_activity_counts_in_its_own_hour(states: dict[str, Marts]) -> None:
    first = states["first"]
    ten = first.one("fct_activity_hourly", channel="email", hour_at=_hour("11-01 10"))
    eleven = first.one("fct_activity_hourly", channel="email", hour_at=_hour("11-01 11"))
    noon = first.one("fct_activity_hourly", channel="email", hour_at=_hour("11-01 12"))
    assert (ten["sends"], ten["opens"], ten["cost"]) == (2, 0, Decimal("0.5"))
    assert (eleven["deliveries"], eleven["unique_opens"], eleven["machine_opens"]) == (1, 1, 1)
    assert (eleven["unique_human_opens"], noon["unique_human_opens"]) == (0, 1)
    assert (noon["unique_opens"], noon["opens"], noon["conversions"]) == (0, 1, 1)
    assert noon["revenue"] == Decimal("25.5")


def test_holdout_stops_in_the_funnel_when_it_was_targeted(states: dict[str, Marts]) -> None:
    day = at("2026-11-01").date()
    row = states["first"].one(
        "fct_abort_funnel", anchor_date=day, stage="targeted", abort_reason="holdout"
    )
    assert row["messages"] == 1
    assert states["first"].one(
        "fct_abort_funnel", anchor_date=day, stage="targeted", abort_reason=""
    )["messages"] == 3  # fmt: skip


def test_opened_app_is_influenced_when_nobody_tapped(states: dict[str, Marts]) -> None:
    before = states["first"].one("fct_messages", message_id="push-1")
    after = states["late"].one("fct_messages", message_id="push-1")
    assert before["influenced_opened_at"] == at("2026-11-02 10:05:00")
    assert after["influenced_opened_at"] == at("2026-11-02 09:55:00")
    late = states["late"]
    assert late.one("fct_activity_hourly", hour_at=_hour("11-02 09"))["influenced_opens"] == 1
    assert not [k for k in late.rows["fct_activity_hourly"] if k[-1] == _hour("11-02 10")]


@pytest.mark.parametrize("table", FACTS)
def test_nothing_changes_when_run_twice(states: dict[str, Marts], table: str) -> None:
    assert states["second"].rows[table] == states["first"].rows[table]


def test_late_open_changes_its_message_and_its_send_hour_only(states: dict[str, Marts]) -> None:
    before, after = states["second"], states["late"]
    assert after.changed("fct_messages", before) == {
        ("mail-4",),  # the late open
        ("push-1",),  # a session before the one that counted
        ("push-2",),  # its send landed after its delivery
        *{(m,) for m in ("mail-1", "mail-2", "mail-3")},  # the campaign's window changed
    }
    hours = {key[-1] for key in after.changed("fct_engagement_hourly", before)}
    values_changed = {
        key[-1]
        for key in _without_stamps(after).changed("fct_engagement_hourly", _without_stamps(before))
    }
    assert hours <= {
        _hour("10-25 08"), _hour("11-01 10"), _hour("11-02 09"), _hour("11-03 10"),
        _hour("11-03 11"),
    }  # fmt: skip
    assert values_changed == {
        _hour("10-25 08"), _hour("11-01 10"), _hour("11-03 10"), _hour("11-03 11"),
    }  # fmt: skip
    sent_hour = after.one("fct_engagement_hourly", hour_at=_hour("10-25 08"))
    assert (sent_hour["opens"], sent_hour["unique_opens"]) == (1, 1)


def test_hour_empties_when_its_only_message_moves_to_another(states: dict[str, Marts]) -> None:
    before, after = states["second"], states["late"]
    assert before.one("fct_engagement_hourly", hour_at=_hour("11-03 11"))["deliveries"] == 1
    assert not [k for k in after.rows["fct_engagement_hourly"] if k[-1] == _hour("11-03 11")]
    assert after.one("fct_engagement_hourly", hour_at=_hour("11-03 10"))["deliveries"] == 1


def test_conversion_leaves_when_the_campaign_shortens_its_window(states: dict[str, Marts]) -> None:
    after = states["late"].one("fct_messages", message_id="mail-1")
    assert (after["is_converted"], after["conversions"]) == (False, 1)


def test_every_version_is_a_period_when_several_landed_between_runs(
    states: dict[str, Marts],
) -> None:
    periods = sorted(
        (row["valid_from"], row["valid_to"], row["status"], row["is_current"])
        for row in states["late"].rows["dim_campaigns"].values()
    )
    assert [period[2] for period in periods] == ["draft", "active", "paused", "active"]
    assert [period[3] for period in periods] == [False, False, False, True]
    assert [p[1] for p in periods[:-1]] == [p[0] for p in periods[1:]]


@pytest.mark.parametrize("table", FACTS)
def test_full_refresh_equals_incremental(states: dict[str, Marts], table: str) -> None:
    incremental, rebuilt = _without_stamps(states["late"]), _without_stamps(states["rebuilt"])
    for state in (incremental, rebuilt):
        for row in state.rows[table].values():
            # plumbing: keeps hours of an influence taken back, which a rebuilt table never knew
            row.pop("activity_hours", None)
    assert rebuilt.rows[table] == incremental.rows[table]
    assert rebuilt.rows[table]


def test_ratios_equal_the_registry(states: dict[str, Marts], warehouse: Client) -> None:
    columns = set(_columns(warehouse, "fct_campaign_performance"))
    ratios = sorted(columns & {name for name, m in METRICS.items() if m.denominator})
    assert len(ratios) >= 11
    pairs = [(name, METRICS[name].sql(grain="row")) for name in ratios]
    pairs.append(("unique_human_open_rate", METRICS["unique_open_rate"].sql("human", "row")))
    for name, formula in pairs:
        found = warehouse.query(
            f"select {name}, {formula} from marts.fct_campaign_performance "
            f"where tenant_id = '{TENANT}'"
        )
        for ours, registry in found.result_rows:
            assert ours == pytest.approx(registry), name


def test_reader_reads_marts_and_operator_views(
    states: dict[str, Marts], warehouse_reader: Client
) -> None:
    for view in ("rpt_pipeline_status", "rpt_dead_letters_daily", "rpt_slow_queries"):
        warehouse_reader.query(f"select * from marts.{view} limit 1")
    counted = warehouse_reader.query(
        f"select count() from marts.fct_messages where tenant_id = '{TENANT}'"
    )
    assert counted.result_rows == [(len(states["rebuilt"].rows["fct_messages"]),)]


def _hour(text: str) -> datetime:
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H").replace(tzinfo=UTC)


def _without_stamps(marts: Marts) -> Marts:
    other = object.__new__(Marts)
    other.rows = {
        table: {
            key: {name: value for name, value in row.items() if name != "updated_at"}
            for key, row in rows.items()
        }
        for table, rows in marts.rows.items()
    }
    return other


def test_cli_hands_arguments_and_exit_codes_through(herald_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "herald.cli.main", "dbt"]
    version = subprocess.run(
        [*command, "--version"], env=herald_environment, capture_output=True, text=True, check=False
    )
    assert version.returncode == 0
    assert "clickhouse" in version.stdout
    wrong = subprocess.run(
        [*command, "nonsense"], env=herald_environment, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
