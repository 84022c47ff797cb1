"""Alerts open once, follow what is wrong, resolve, and survive being judged again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from herald.alerts.baseline import ratio_profile, usual_ratio, volume_profile, wilson
from herald.alerts.judge import Judge, MemoryStore, grid
from herald.alerts.lifecycle import Changes
from herald.alerts.model import alert_id
from herald.alerts.observations import FrameObservations
from herald.alerts.panel import panel_of
from herald.alerts.rules import BounceSpike, Rule, parse_rule
from tests.data.alert_counts import DAY, HOUR, MINUTE, NOON, frame, hourly, minutes, usual

RULE: dict[str, Any] = {
    "name": "bounces", "kind": "bounce_spike", "owner": "team", "severity": "warning",
    "window": "5m", "for": "2m", "cooldown": "10m", "threshold": 0.2, "min_volume": 20,
    "group_by": ["provider"], "runbook": "docs/runbooks/alerts-bounce_spike.md",
}  # fmt: skip


def rule(**changes: Any) -> Rule:
    return parse_rule({**RULE, **changes})


def world(*bad: tuple[int, int]) -> FrameObservations:
    """Half of all messages bounce in the given minutes after noon."""
    rows = usual(NOON - 3 * HOUR, NOON + 3 * HOUR)
    bounces = [minutes(NOON + a * MINUTE, NOON + b * MINUTE, bounced=8) for a, b in bad]
    return FrameObservations(frame(rows, *bounces))


def after(minute: int) -> int:
    return NOON + minute * MINUTE


def at(minute: int) -> datetime:
    return datetime.fromtimestamp(after(minute) / 1_000, UTC)


def told(store: MemoryStore) -> list[tuple[str, datetime]]:
    return [(t.transition, t.happened_at) for t in store.transitions.values()]


def test_alert_opens_after_for_and_resolves_after_cooldown() -> None:
    store = MemoryStore()
    Judge([rule()], world((0, 20)), store).step(after(-60), after(120))
    (alert,) = store.alerts.values()
    opened, resolved = told(store)
    assert opened[0] == "opened"
    assert at(2) < opened[1] <= at(6)
    # the last window that was wrong, and the cooldown from there
    assert resolved == ("resolved", alert.resolved_at)
    assert alert.resolved_at is not None
    assert (alert.resolved_at - alert.window_end).total_seconds() == 600
    assert alert.status == "resolved"


def test_alert_stays_away_when_it_was_wrong_for_a_moment_only() -> None:
    store = MemoryStore()
    Judge([rule(**{"for": "8m"})], world((0, 1)), store).step(after(-60), after(120))
    assert not store.alerts


def test_alert_stays_open_when_it_comes_back_within_the_cooldown() -> None:
    store = MemoryStore()
    Judge([rule()], world((0, 10), (16, 26)), store).step(after(-60), after(120))
    assert [name for name, _ in told(store)] == ["opened", "resolved"]


def test_alert_is_another_one_when_it_comes_back_after_the_cooldown() -> None:
    store = MemoryStore()
    Judge([rule()], world((0, 10), (60, 70)), store).step(after(-60), after(120))
    assert [name for name, _ in told(store)] == ["opened", "resolved"] * 2
    assert len(store.alerts) == 2


@pytest.mark.parametrize("step", [1, 7, 60, 180])
def test_alerts_are_the_same_however_the_instants_are_cut_into_steps(step: int) -> None:
    whole, cut = MemoryStore(), MemoryStore()
    observations = world((0, 20), (70, 80))
    Judge([rule()], observations, whole).step(after(-60), after(120))
    judge = Judge([rule()], observations, cut)
    for minute in range(-60, 120, step):
        judge.step(after(minute), after(min(120, minute + step)))
    assert {a.alert_id: a.resolved_at for a in whole.alerts.values()} == {
        a.alert_id: a.resolved_at for a in cut.alerts.values()
    }
    assert told(whole) == told(cut)


def test_nothing_changes_when_a_step_is_judged_again() -> None:
    store = MemoryStore()
    judge = Judge([rule()], world((0, 20)), store)
    for end in (10, 10, 120, 120):
        judge.step(after(-60), after(end))
    assert [name for name, _ in told(store)] == ["opened", "resolved"]
    assert len(store.alerts) == 1


def test_step_writes_nothing_when_another_run_crashed_before_it_wrote() -> None:
    class Crashing(MemoryStore):
        crashes = 1

        def write(self, changes: Changes) -> None:
            if self.crashes:
                self.crashes -= 1
                raise OSError("killed")
            super().write(changes)

    store = Crashing()
    judge = Judge([rule()], world((0, 20)), store)
    with pytest.raises(OSError, match="killed"):
        judge.step(after(-60), after(120))
    assert not store.alerts
    judge.step(after(-60), after(120))
    assert [name for name, _ in told(store)] == ["opened", "resolved"]


def test_judged_counts_what_happened() -> None:
    done = Judge([rule(), rule(name="other", min_volume=10_000)], world((0, 200)), MemoryStore())
    outcome = done.step(after(-60), after(60))
    assert (outcome.rules, outcome.opened, outcome.resolved, outcome.open_alerts) == (2, 1, 0, 1)


def test_step_judges_nothing_when_no_instant_of_a_rule_is_due() -> None:
    judge = Judge([rule(every="5m")], world((0, 20)), MemoryStore())
    assert judge.step(after(1), after(4)).rules == 0


def test_alert_id_depends_on_what_it_is_about_and_nothing_else() -> None:
    first = alert_id("r", "acme", {"a": "1", "b": "2"}, 5)
    assert first == alert_id("r", "acme", {"b": "2", "a": "1"}, 5)
    others = {
        alert_id("q", "acme", {"a": "1", "b": "2"}, 5), alert_id("r", "x", {"a": "1", "b": "2"}, 5),
        alert_id("r", "acme", {"a": "2", "b": "1"}, 5), alert_id("r", "acme", {"a": "1"}, 5),
        alert_id("r", "acme", {"a": "1", "b": "2"}, 6),
    }  # fmt: skip
    assert len({first, *others}) == 6
    assert len(first) == 32


def test_grid_holds_the_multiples_after_the_first_instant_up_to_the_last() -> None:
    assert grid(0, 10, 5).tolist() == [5, 10]
    assert grid(4, 4, 5).tolist() == []


def test_panel_sums_windows_and_counts_nothing_before_its_start() -> None:
    rows = minutes(NOON, NOON + 4 * MINUTE, sent=2)
    panel = panel_of(frame(rows), ["provider"], ["sent"], NOON, NOON + 5 * MINUTE, MINUTE)
    ticks = np.array([NOON, NOON + MINUTE, NOON + 4 * MINUTE, NOON + 5 * MINUTE])
    assert panel.groups == [("acme", "ses")]
    assert panel.before(["sent"], ticks, 2 * MINUTE).tolist() == [[0, 2, 4, 2]]
    assert panel.end_ms == NOON + 5 * MINUTE


def test_wilson_bounds_match_published_numbers() -> None:
    # Wilson's interval of 10 in 50 at 95%: 0.1124 to 0.3304 (Brown, Cai, DasGupta 2001)
    low, high = wilson(np.array([10.0]), np.array([50.0]), 1.959964)
    assert low[0] == pytest.approx(0.1124, abs=1e-4)
    assert high[0] == pytest.approx(0.3304, abs=1e-4)


def test_profile_knows_the_hour_of_the_week_and_its_spread() -> None:
    start = NOON // (7 * DAY) * 7 * DAY
    history = panel_of(
        hourly(start, start + 28 * DAY), ["provider"], ["sent", "opened"], start,
        start + 28 * DAY, HOUR,
    )  # fmt: skip
    history.values["sent"][:, 5::168] *= 3
    profile = volume_profile(history, ["sent"])
    groups = [("acme", "ses"), ("acme", "unknown")]
    ticks = np.array([start + 35 * DAY + 6 * HOUR, start + 35 * DAY + 8 * HOUR])
    expected = profile.expected(groups, ticks, 2 * HOUR)
    assert expected[0].tolist() == [600 + 1_800, 1_200]
    assert np.isnan(expected[1]).all()
    assert profile.spreads(groups)[0, 0] == pytest.approx(0.05)
    ratio = ratio_profile(history, ["opened"], ["sent"])
    assert ratio.ratio(groups, ticks[1:], HOUR)[0, 0] == pytest.approx(0.3)
    assert usual_ratio(history, ["opened"], ["sent"])[0] == pytest.approx(0.3)


def test_profile_says_nothing_when_history_is_short() -> None:
    history = panel_of(hourly(0, 6 * DAY), [], ["sent"], 0, 6 * DAY, HOUR)
    profile = volume_profile(history, ["sent"])
    assert np.isnan(profile.expected([("acme",)], np.array([8 * DAY]), HOUR)).all()
    assert np.isnan(usual_ratio(panel_of(hourly(0, HOUR), [], ["sent", "opened"], 0, HOUR, HOUR),
                                ["opened"], ["sent"])).all()  # fmt: skip


def test_rule_kinds_keep_their_type_when_parsed() -> None:
    assert isinstance(rule(), BounceSpike)
