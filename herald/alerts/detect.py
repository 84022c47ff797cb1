"""Detection: is a rule broken at each of some instants. Pure.

The same code judges a live minute and a simulated week. Every function takes all instants at once,
which is what makes a week of minutes take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from herald.alerts import baseline
from herald.alerts.observations import HISTORY_WEEKS, HOUR_MS, Observations
from herald.alerts.panel import Floats, Group, Ints, Panel, panel_of
from herald.alerts.rules import (
    BaseRule,
    BotStorm,
    BounceSpike,
    Canary,
    ComplaintSpike,
    Count,
    DeliveryGap,
    FunnelStall,
    OverMessaging,
    ProviderSilence,
    RateAnomaly,
    Rule,
    VolumeAnomaly,
)

DAY_MS = 24 * HOUR_MS
EXPECTED_SHARE = 0.5
"""Of the usual volume: what a provider has to be used to before its silence means something."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Judgements of one rule: arrays of shape (groups, ticks).

    value: what was measured. limit: where it starts to be wrong. usual: the baseline, NaN where
    there is none. events: how many events the value rests on.
    """

    groups: list[Group]
    ticks: Ints
    broken: npt.NDArray[np.bool_]
    value: Floats
    limit: Floats
    usual: Floats
    events: Floats


class Baselines:
    """What is usual, learned once a UTC day for each rule from the weeks before it.

    A replay of an instant finds the same baseline, because only days that are over count. Make a
    new one when rules change: it knows a rule by its name.
    """

    def __init__(self, observations: Observations) -> None:
        self._observations = observations
        self._known: dict[tuple[Any, ...], Any] = {}

    def get(
        self, rule: BaseRule, day: int, names: Sequence[Count], learn: Callable[[Panel], Any]
    ) -> Any:
        """What `learn` makes of the rule's history before a day (days since 1970)."""
        key = (rule.name, day, tuple(names))
        if key not in self._known:
            before = day * DAY_MS
            start = before - HISTORY_WEEKS * 7 * DAY_MS
            frame = self._observations.history(rule, names, before)
            if len(frame):  # a platform that is a week old has no zeros before it
                start = max(start, int(frame["at"].to_numpy().min()))
            panel = panel_of(frame, rule.group_by, names, start, before, HOUR_MS)
            self._known = {k: v for k, v in self._known.items() if k[0] != rule.name or k[1] >= day}
            self._known[key] = learn(panel)
        return self._known[key]


def detect(
    rule: Rule, observations: Observations, baselines: Baselines, ticks: Ints
) -> list[Verdicts]:
    """Judge a rule at some instants (Unix ms, rising, on its grid): one result a UTC day."""
    if not len(ticks):
        return []
    days = (ticks - 1) // DAY_MS
    judge = _JUDGES[type(rule)]
    return [
        judge(rule, observations, baselines, ticks[days == day], int(day))
        for day in np.unique(days)
    ]


def _panel(
    rule: BaseRule,
    observations: Observations,
    names: Sequence[Count],
    ticks: Ints,
    back_ms: int = 0,
) -> Panel:
    start = int(ticks[0]) - max(rule.window_ms, back_ms)
    end = int(ticks[-1])
    frame = observations.counts(rule, names, start, end)
    return panel_of(frame, rule.group_by, names, start, end, rule.step_ms)


def _usual(
    rule: BaseRule, baselines: Baselines, day: int, top: Sequence[Count], bottom: Sequence[Count],
    groups: Sequence[Group],
) -> Floats:  # fmt: skip
    """Usual ratio of each group, shape (groups, 1); NaN where unknown."""
    names = list(dict.fromkeys([*top, *bottom]))

    def learn(history: Panel) -> dict[Group, float]:
        ratios = baseline.usual_ratio(history, top, bottom)
        return dict(zip(history.groups, map(float, ratios), strict=True))

    known: dict[Group, float] = baselines.get(rule, day, names, learn)
    return np.array([known.get(group, np.nan) for group in groups]).reshape(-1, 1)


def _ratio(
    panel: Panel, rule: BaseRule, ticks: Ints, top: Sequence[str], bottom: Sequence[str]
) -> tuple[Floats, Floats]:
    return (
        panel.before(top, ticks, rule.window_ms),
        panel.before(bottom, ticks, rule.window_ms),
    )


def _verdicts(
    panel: Panel, ticks: Ints, broken: npt.NDArray[np.bool_], value: Floats, limit: Floats,
    usual: Floats, events: Floats,
) -> Verdicts:  # fmt: skip
    shape = (len(panel.groups), len(ticks))
    return Verdicts(
        panel.groups, ticks, broken, value, np.broadcast_to(limit, shape),
        np.broadcast_to(usual, shape), events,
    )  # fmt: skip


def _delivery_gap(
    rule: DeliveryGap, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    answered: list[Count] = ["delivered", "bounced", "soft_bounced", "failed", "deferred"]
    panel = _panel(rule, observations, ["sent", *answered], ticks)
    answers, sent = _ratio(panel, rule, ticks, answered, ["sent"])
    usual = 1 - np.minimum(_usual(rule, baselines, day, answered, ["sent"], panel.groups), 1)
    limit = rule.threshold + np.nan_to_num(usual, nan=0.0)
    missing = np.clip(sent - answers, 0, None)
    low, _ = baseline.wilson(missing, sent, rule.certainty)
    broken = (sent >= rule.min_volume) & (low > limit) & (limit < 1)
    return _verdicts(panel, ticks, broken, missing / np.maximum(sent, 1), limit, usual, sent)


def _spike(
    rule: BounceSpike | ComplaintSpike, observations: Observations, baselines: Baselines,
    ticks: Ints, day: int, *, top: Count, bottom: Count,
) -> Verdicts:  # fmt: skip
    panel = _panel(rule, observations, [top, bottom], ticks)
    bad, of = _ratio(panel, rule, ticks, [top], [bottom])
    usual = _usual(rule, baselines, day, [top], [bottom], panel.groups)
    limit = np.maximum(rule.threshold, rule.times_baseline * np.nan_to_num(usual, nan=0.0))
    low, _ = baseline.wilson(np.minimum(bad, of), of, rule.certainty)
    broken = (of >= rule.min_volume) & (low > limit)
    return _verdicts(panel, ticks, broken, bad / np.maximum(of, 1), limit, usual, of)


def _funnel_stall(
    rule: FunnelStall, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    panel = _panel(rule, observations, [rule.from_stage, rule.to_stage], ticks)
    reached, came = _ratio(panel, rule, ticks, [rule.to_stage], [rule.from_stage])
    usual = _usual(rule, baselines, day, [rule.to_stage], [rule.from_stage], panel.groups)
    limit = rule.threshold * np.minimum(np.nan_to_num(usual, nan=1.0), 1.0)
    _, high = baseline.wilson(np.minimum(reached, came), came, rule.certainty)
    broken = (came >= rule.min_volume) & (high < limit)
    return _verdicts(panel, ticks, broken, reached / np.maximum(came, 1), limit, usual, came)


def _bot_storm(
    rule: BotStorm, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    del baselines, day
    reach_ms = int(rule.reach.total_seconds() * 1_000)
    reached: list[Count] = ["delivered", "impressed"]
    panel = _panel(rule, observations, ["clicked", *reached], ticks, reach_ms)
    clicks = panel.before(["clicked"], ticks, rule.window_ms)
    of = panel.before(reached, ticks, reach_ms)
    value = clicks / np.maximum(of, 1)
    broken = (clicks >= rule.min_volume) & (value > rule.threshold)
    nothing = np.full((1, 1), np.nan)
    return _verdicts(panel, ticks, broken, value, np.array([[rule.threshold]]), nothing, clicks)


def _provider_silence(
    rule: ProviderSilence, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    names = list(rule.metric)
    profile: baseline.Profile = baselines.get(
        rule, day, names, partial(baseline.volume_profile, names=names)
    )
    panel = _panel(rule, observations, names, ticks)
    panel = _with_groups(panel, profile.groups)
    heard = panel.before(names, ticks, rule.window_ms)
    # the quietest of the hours around: a silence must not hang on where an hour begins
    around = [
        profile.expected(panel.groups, ticks + shift, rule.window_ms)
        for shift in (-HOUR_MS, 0, HOUR_MS)
    ]
    usual = np.min(around, axis=0)
    limit = rule.threshold * np.nan_to_num(usual, nan=0.0)
    broken = (EXPECTED_SHARE * usual >= rule.min_volume) & (heard <= limit)
    return _verdicts(panel, ticks, broken, heard, limit, usual, heard)


def _with_groups(panel: Panel, groups: Sequence[Group]) -> Panel:
    """The panel with empty rows for groups that were heard of before but not now."""
    missing = [group for group in groups if group not in set(panel.groups)]
    if not missing:
        return panel
    values = {
        name: np.vstack([rows, np.zeros((len(missing), rows.shape[1]))])
        for name, rows in panel.values.items()
    }
    return Panel([*panel.groups, *missing], panel.start_ms, panel.step_ms, values)


def _volume_anomaly(
    rule: VolumeAnomaly, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    names = list(rule.metric)
    profile: baseline.Profile = baselines.get(
        rule, day, names, partial(baseline.volume_profile, names=names)
    )
    panel = _with_groups(_panel(rule, observations, names, ticks), profile.groups)
    counted = panel.before(names, ticks, rule.window_ms)
    usual = profile.expected(panel.groups, ticks, rule.window_ms)
    noise = profile.spreads(panel.groups) ** 2 + 1 / np.maximum(usual, 1)
    residual = np.log(counted + 0.5) - np.log(usual + 0.5)
    enough = np.maximum(counted, usual) >= rule.min_volume
    broken, limit = _odd(rule, residual, noise, usual, enough & (usual > 0))
    return _verdicts(panel, ticks, broken, counted, limit, usual, counted)


def _rate_anomaly(
    rule: RateAnomaly, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    top, bottom = list(rule.numerator), list(rule.denominator)
    names = list(dict.fromkeys([*top, *bottom]))
    profile: baseline.Profile = baselines.get(
        rule, day, names, partial(baseline.ratio_profile, numerator=top, denominator=bottom)
    )
    panel = _panel(rule, observations, names, ticks)
    hits, of = _ratio(panel, rule, ticks, top, bottom)
    usual = profile.ratio(panel.groups, ticks, rule.window_ms)
    value = hits / np.maximum(of, 1)
    noise = profile.spreads(panel.groups) ** 2 + 1 / np.maximum(usual * of, 1)
    residual = np.log(value + 1e-4) - np.log(usual + 1e-4)
    broken, limit = _odd(rule, residual, noise, usual, of >= rule.min_volume)
    return _verdicts(panel, ticks, broken, value, limit, usual, of)


def _odd(
    rule: VolumeAnomaly | RateAnomaly, residual: Floats, noise: Floats, usual: Floats,
    enough: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], Floats]:  # fmt: skip
    """Which residuals of logarithms are too large, and the limit on the side they lie on."""
    least = np.log1p(rule.min_change)
    far = np.maximum(rule.threshold * np.sqrt(noise), least)
    above = (residual > far) & (rule.direction != "below")
    below = (residual < -far) & (rule.direction != "above")
    limit = usual * np.exp(np.where(residual < 0, -far, far))
    return enough & np.isfinite(residual) & (above | below), limit


def _over_messaging(
    rule: OverMessaging, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    del baselines, day
    recent_ms = int(rule.recent.total_seconds() * 1_000)
    frame = observations.messaged(rule, int(ticks[0]) - recent_ms, int(ticks[-1]))
    groups: list[Group] = [(str(t),) for t in sorted(frame["tenant_id"].unique().to_list())]
    value = np.zeros((len(groups), len(ticks)))
    events = np.zeros_like(value)
    for row, (tenant,) in enumerate(groups):
        mine = frame.filter(pl.col("tenant_id") == tenant)
        seen, sends = mine["seen_at"].to_numpy(), mine["sends"].to_numpy()
        users = mine["user_id"].rank("dense").to_numpy().astype(np.int64)
        for column, tick in enumerate(ticks):
            now = (seen < tick) & (seen >= tick - recent_ms)
            if now.any():
                # a user is there once for each window: its fullest one says how many sends
                most = np.zeros(users.max() + 1)
                np.maximum.at(most, users[now], sends[now])
                value[row, column], events[row, column] = (most > 0).sum(), most.sum()
    limit = np.full_like(value, rule.min_volume)
    nothing = np.full_like(value, np.nan)
    return Verdicts(groups, ticks, value >= rule.min_volume, value, limit, nothing, events)


def _canary(
    rule: Canary, observations: Observations, baselines: Baselines, ticks: Ints, day: int
) -> Verdicts:
    del baselines, day
    slow_ms = int(rule.threshold * 1_000)
    start = int(ticks[0]) - rule.window_ms - slow_ms
    frame = observations.canaries(rule, start, int(ticks[-1]))
    keys = ["tenant_id", *rule.group_by]
    parts = frame.partition_by(keys, as_dict=True)
    groups: list[Group] = sorted(tuple(map(str, key)) for key in parts)
    late = np.zeros((len(groups), len(ticks)))
    worst, count = np.zeros_like(late), np.zeros_like(late)
    for row, group in enumerate(groups):
        mine = parts[group]
        sent = mine["sent_at"].to_numpy()
        done = mine["delivered_at"].fill_null(np.iinfo(np.int64).max).to_numpy()
        for column, tick in enumerate(ticks):
            # those that had their time, and those that took longer than that
            due = (sent <= tick - slow_ms) & (sent > tick - slow_ms - rule.window_ms)
            took = np.minimum(done[due], tick) - sent[due]
            late[row, column] = (took > slow_ms).sum()
            worst[row, column] = took.max(initial=0) / 1_000
            count[row, column] = due.sum()
    nothing = np.full_like(late, np.nan)
    limit = np.full_like(late, rule.threshold)
    return Verdicts(groups, ticks, late >= rule.min_volume, worst, limit, nothing, count)


_JUDGES: dict[type[BaseRule], Callable[..., Verdicts]] = {
    DeliveryGap: _delivery_gap,
    BounceSpike: partial(_spike, top="bounced", bottom="sent"),
    ComplaintSpike: partial(_spike, top="complained", bottom="delivered"),
    ProviderSilence: _provider_silence,
    BotStorm: _bot_storm,
    OverMessaging: _over_messaging,
    FunnelStall: _funnel_stall,
    VolumeAnomaly: _volume_anomaly,
    RateAnomaly: _rate_anomaly,
    Canary: _canary,
}
