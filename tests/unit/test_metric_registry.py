"""Definitions: formulas against numbers worked out by hand, on every form a formula takes."""

from __future__ import annotations

import re
from pathlib import Path

import chdb
import pytest

from herald.metrics.catalogue import dimensions, entries, entry
from herald.metrics.counts import COUNTS
from herald.metrics.docs import render
from herald.metrics.registry import METRICS, SCOPE_TABLES, definition_version, exposed, resolve
from herald.settings import ROOT

NUMBERS = {
    "targeted": 120,
    "eligible": 110,
    "attempted": 105,
    "sends": 100,
    "deliveries": 80,
    "bounces": 5,
    "soft_bounces": 3,
    "failures": 2,
    "aborts": 12,
    "unique_opens": 40,
    "unique_human_opens": 30,
    "unique_machine_opens": 10,
    "opens": 60,
    "human_opens": 45,
    "machine_opens": 15,
    "influenced_opens": 8,
    "unique_clicks": 10,
    "unique_human_clicks": 6,
    "unique_machine_clicks": 4,
    "clicks": 14,
    "human_clicks": 9,
    "machine_clicks": 5,
    "unique_impressions": 20,
    "unsubscribes": 4,
    "complaints": 1,
    "dismissals": 7,
    "reads": 50,
    "replies": 2,
    "conversions": 5,
    "total_conversions": 9,
    "revenue": 90,
    "cost": 30,
    "unique_recipients": 50,
}
# worked out by hand from the definitions and the numbers above
EXPECTED = [
    ("delivery_rate", "email", 0.95),  # (100 - 5) / 100
    ("delivery_rate", "push", 0.8),  # 80 / 100
    ("delivery_rate", "in_app", None),  # nothing reports a delivery there
    ("bounce_rate", "email", 0.05),
    ("spam_rate", "email", 0.01),
    ("unsubscribe_rate", "email", 0.05),  # 4 / 80
    ("unique_open_rate", "email", 0.5),
    ("unique_open_rate__human", "email", 0.375),
    ("unique_open_rate__machine", "email", 0.125),
    ("unique_click_rate", "push", 0.125),
    ("unique_click_rate__human", "push", 0.075),
    ("unique_click_rate", "in_app", 0.5),  # 10 / 20 impressions
    ("click_to_open_rate", "email", 0.25),
    ("click_to_open_rate__human", "email", 0.2),  # 6 / 30
    ("total_open_rate", "push", 0.6),  # (40 + 8) / 80
    ("total_open_rate__machine", "push", 0.125),  # machines influence nobody
    ("total_open_rate", "email", None),
    ("conversion_rate", "email", 0.1),  # 5 / 50 recipients
    ("conversion_rate", "in_app", 0.25),  # 5 / 20 impressions
    ("abort_rate", "push", 0.1),  # 12 / 120
    ("sms_confirmed_rate", "sms", 0.8),
    ("sms_rejected_rate", "sms", 0.05),
    ("read_rate", "whatsapp", 0.5),
    ("revenue_per_recipient", "email", 1.8),
    ("cost_per_conversion", "email", 6.0),
    ("roi", "email", 2.0),  # (90 - 30) / 30
    ("revenue", "email", 90),
    ("opens__machine", "email", 15),
]


@pytest.mark.parametrize(("name", "channel", "expected"), EXPECTED)
def test_value_is_the_hand_computed_number_when_counts_are_given(
    name: str, channel: str, expected: float | None
) -> None:
    found = resolve(name)
    assert found is not None
    value = found.metric.value(NUMBERS, channel=channel, audience=found.audience)
    assert value == pytest.approx(expected)


def query(sql: str) -> str:
    return str(chdb.query(sql, "TSV")).strip()


def row_of(numbers: dict[str, int], channel: str) -> str:
    plain = [
        f"toDecimal64({v}, 4) as {n}" if n in {"revenue", "cost"} else f"toUInt64({v}) as {n}"
        for n, v in numbers.items()
    ]
    return f"select '{channel}' as channel, {', '.join(plain)}"


@pytest.mark.parametrize(("name", "channel", "expected"), EXPECTED)
def test_sql_of_one_row_is_the_hand_computed_number_when_run(
    name: str, channel: str, expected: float | None
) -> None:
    found = resolve(name)
    assert found is not None
    value = query(f"select {found.sql('row')} from ({row_of(NUMBERS, channel)})")
    assert value == "\\N" if expected is None else float(value) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "channel", "expected"), EXPECTED)
def test_hourly_sql_is_the_hand_computed_number_when_rows_are_split_over_hours(
    name: str, channel: str, expected: float | None
) -> None:
    found = resolve(name)
    assert found is not None
    # two hours that add up to the numbers; 50 distinct recipients, 10 of them in both hours
    first = {n: v // 3 for n, v in NUMBERS.items()}
    second = {n: v - first[n] for n, v in NUMBERS.items()}
    hours = [
        f"select *, (select uniqExactState(toString(number)) from numbers({start}, {many})) "
        f"as unique_recipients_state from ({row_of(numbers, channel)})"
        for numbers, start, many in ((first, 0, 30), (second, 20, 30))
    ]
    value = query(f"select {found.sql()} from ({' union all '.join(hours)})")
    assert value == "\\N" if expected is None else float(value) == pytest.approx(expected)


@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.denominator])
def test_ratio_is_null_when_nothing_was_counted(name: str) -> None:
    metric = METRICS[name]
    zeros = dict.fromkeys(NUMBERS, 0)
    assert metric.value(zeros, channel="email") is None
    assert query(f"select {metric.sql(grain='row')} from ({row_of(zeros, 'email')})") == "\\N"


def test_negative_numerator_stays_negative_when_cost_exceeds_revenue() -> None:
    loss = {**NUMBERS, "revenue": 0}
    value = query(f"select {METRICS['roi'].sql(grain='row')} from ({row_of(loss, 'email')})")
    assert float(value) == -1.0


def test_audiences_add_up_when_a_count_knows_them() -> None:
    for count in COUNTS.values():
        if count.human:
            total = NUMBERS[count.column("human")] + NUMBERS[count.column("machine")]
            assert NUMBERS[count.name] == total


def test_message_sql_counts_a_user_once_when_they_got_two_messages() -> None:
    columns = "select 'email' as channel, true as is_sent, false as is_impressed, 'u' as user_id"
    found = METRICS["unique_recipients"].sql(grain="message")
    assert query(f"select {found} from ({columns} union all {columns})") == "1"


def test_every_metric_says_what_it_is_when_listed() -> None:
    assert len(METRICS) >= 40
    for metric in METRICS.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert metric.label
        assert metric.description.endswith(".")
        assert metric.owner
        assert set(metric.scopes) == set(SCOPE_TABLES)
        assert metric.denominator is None or metric.unit in {"ratio", "currency"}


def test_additive_is_false_when_ratio_or_distinct_users() -> None:
    assert METRICS["sends"].additive
    assert METRICS["revenue"].additive
    assert not METRICS["bounce_rate"].additive
    assert not METRICS["unique_recipients"].additive


def test_exposed_names_carry_the_audience_when_metric_has_audiences() -> None:
    names = [e.name for e in exposed()]
    assert len(names) == len(set(names))
    assert {"unique_open_rate", "unique_open_rate__human", "unique_open_rate__machine"} < set(names)
    assert "sends__human" not in names
    assert resolve("sends__human") is None
    found = resolve("opens__human")
    assert found is not None
    assert found.label == "Opens (human)"


def test_definition_version_changes_when_formula_changes() -> None:
    versions = {definition_version(metric) for metric in METRICS.values()}
    assert len(versions) == len(METRICS)


def test_reference_page_is_current_when_registry_is_rendered() -> None:
    page = Path(ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert page == render(), "run `make docs`"


def test_catalogue_has_denominators_and_names_elsewhere_when_asked() -> None:
    assert [e.name for e in entries()] == list(METRICS)
    found = entry("conversion_rate")
    assert found is not None
    assert found.denominators == ["unique_recipients", "unique_impressions"]
    assert found.elsewhere["braze"] == "Primary Conversions (A) %"
    assert entry("nothing") is None
    assert {"campaign", "channel", "variant", "country", "platform", "device_class"} <= {
        d.name for d in dimensions()
    }
