"""The parts of the live read model that need no warehouse."""

from __future__ import annotations

import pytest

from api.security import Keyring
from herald.live.filters import FilterError, LiveFilters
from herald.live.formulas import LIVE_METRICS, evaluate, slice_of
from herald.live.window import COLUMNS, POSITION, SLOTS, Row, Window
from herald.metrics.registry import METRICS, Audience


def _row(slot: int, sent: float, key: tuple[str, ...] = ("email", "human")) -> Row:
    values = [0.0] * len(COLUMNS)
    values[POSITION["sent"]] = sent
    return Row("channel", key, slot, values)


def _sent(window: Window, key: tuple[str, ...] = ("email", "human")) -> float:
    return float(window.table("channel").totals()[key][POSITION["sent"]])


def test_window_forgets_slots_when_time_passes_them() -> None:
    window = Window(5)
    window.advance(5 * 1_000 + 2)
    window.replace([940, 941, 1_000], [_row(940, 100), _row(941, 7), _row(1_000, 3)])
    assert _sent(window) == 10  # slot 940 was 61 slots ago
    assert window.advance(5 * 1_001)
    assert not window.advance(5 * 1_001 + 4.9)
    assert _sent(window) == 3
    window.advance(5 * 2_000)
    assert _sent(window) == 0
    assert window.starts() == [5 * slot for slot in range(1_941, 2_001)]


def test_window_replaces_what_a_slot_said_when_it_is_read_again() -> None:
    window = Window(1)
    window.advance(100)
    window.replace([99, 100], [_row(99, 5), _row(100, 1), _row(100, 9, ("sms", "human"))])
    window.replace([100], [_row(100, 2)])
    assert _sent(window) == 7
    assert _sent(window, ("sms", "human")) == 0
    series = window.table("channel").series(("email", "human"), window.order())
    assert series[-2:, POSITION["sent"]].tolist() == [5, 2]


@pytest.mark.parametrize("slots", [1, 7, 50, 60])
def test_every_older_slot_is_read_again_when_the_rotation_has_gone_round(slots: int) -> None:
    window = Window(15)
    window.advance(15 * 5_000)
    before = window.last - 1
    seen: list[int] = []
    for _ in range(SLOTS // slots + 2):
        spans = window.rotating(slots, before)
        assert all(window.first <= first < last <= before for first, last in spans)
        seen += [slot for first, last in spans for slot in range(first, last)]
    assert set(seen) == set(range(window.first, before))


def test_table_drops_keys_when_they_count_nothing_any_more() -> None:
    window = Window(1)
    window.advance(1_000)
    rows = [_row(1_000, 1, (f"c{n}", "human")) for n in range(200)]
    window.replace([1_000], [*rows, _row(1_000, 4)])
    window.advance(1_030)
    window.replace([1_030], [_row(1_030, 2)])
    window.advance(1_061)
    assert list(window.table("channel").keys) == [("email", "human")]
    assert _sent(window) == 2


def test_filters_name_field_value_and_fix_when_they_cannot_be_used() -> None:
    with pytest.raises(FilterError, match=r"windw: no such filter; known: tenant, campaign"):
        LiveFilters.read({"windw": "5"})
    with pytest.raises(FilterError, match=r"window=7: .*1, 5, 15 or 60"):
        LiveFilters.read({"window": "7"})
    with pytest.raises(FilterError, match="audience='robots'"):
        LiveFilters.read({"audience": "robots"})


def test_filters_become_bound_values_when_they_are_set() -> None:
    filters = LiveFilters.read({"tenant": "a'b", "campaign": "", "country": "DE", "window": "60"})
    assert filters.condition() == "1 AND tenant_id = {tenant:String} AND country = {country:String}"
    assert filters.parameters() == {"tenant": "a'b", "country": "DE"}
    assert filters.window == 60


def test_ratios_are_the_registrys_when_channels_are_counted_differently() -> None:
    email = slice_of("email", {"sent": 100, "delivered": 50, "bounced": 10}, {}, "all")
    push = slice_of("push", {"sent": 100, "delivered": 70, "bounced": 10}, {}, "all")
    card = slice_of("in_app", {"sent": 40, "delivered": 0}, {}, "all")
    # e-mail: sends - bounces; push: deliveries; in-app counts in neither
    rate = evaluate(LIVE_METRICS["delivery_rate"], [email, push, card], "all")
    assert rate == (90 + 70) / 200
    assert evaluate(LIVE_METRICS["delivery_rate"], [card], "all") is None


@pytest.mark.parametrize(("audience", "opens"), [("all", 30), ("human", 20), ("machine", 10)])
def test_opens_are_the_audiences_and_sends_are_not_when_one_is_chosen(
    audience: Audience, opens: float
) -> None:
    every = {"delivered": 100.0, "unique_opens": 30.0, "opened": 33.0}
    chosen = {"delivered": 100.0 if audience != "machine" else 0.0, "unique_opens": opens}
    part = slice_of("email", every, chosen, audience)
    rate = evaluate(LIVE_METRICS["unique_open_rate"], [part], audience)
    assert rate == opens / 100


def test_metrics_are_left_out_when_events_alone_cannot_tell_them() -> None:
    assert {"delivery_rate", "spam_rate", "abort_rate", "unique_open_rate"} <= set(LIVE_METRICS)
    assert set(METRICS) - set(LIVE_METRICS) >= {"conversion_rate", "influenced_opens", "read_rate"}


def test_a_signed_word_is_refused_when_it_is_old_used_foreign_or_of_another_purpose() -> None:
    now = [1_000.0]
    keyring = Keyring("a-token-of-sixteen", clock=lambda: now[0])
    ticket = keyring.issue("ticket", 30)
    assert not keyring.check("session", ticket)
    assert not Keyring("another-token-of-16", clock=lambda: now[0]).check("ticket", ticket)
    assert not keyring.check("ticket", ticket.replace(ticket[0], "9", 1))
    assert keyring.use(ticket)
    assert not keyring.use(ticket)
    late = keyring.issue("ticket", 30)
    now[0] += 31
    assert not keyring.use(late)
    for word in ("", ".", "..", "x.y.z", "é"):
        assert not keyring.use(word)
