"""What is usual: robust levels and spreads by hour of the week, from weeks that are over.

Medians and the median absolute deviation (MAD; 1.4826 MAD estimates a standard deviation), so that
an incident of a past week does not become what is usual. Source: Rousseeuw and Croux, "Alternatives
to the Median Absolute Deviation", JASA 88 (1993).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from herald.alerts.panel import Floats, Group, Ints, Panel

HOUR_MS = 3_600_000
WEEK_HOURS = 168
MIN_HOURS = 24
"""Hours of history below which there is no usual ratio."""
MIN_WEEKS = 2
"""Past weeks below which there is no usual hour of the week."""
MIN_DENOMINATOR = 10
MAD_TO_SIGMA = 1.4826
SMALLEST_SPREAD = 0.05
"""Of logarithms. History that hardly varied does not make 3% more an anomaly."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Usual level by hour of the week, and how far single weeks lay from it.

    level: shape (groups, 168), NaN without enough history. Hour 0 is Thursday 00:00 UTC, as in
    Unix time. spread: shape (groups,), standard deviations of the logarithm.
    """

    groups: list[Group]
    level: Floats
    spread: Floats

    def rows(self, groups: Sequence[Group]) -> Ints:
        """Place of each group; -1 for one that has no history."""
        index = {group: i for i, group in enumerate(self.groups)}
        return np.array([index.get(group, -1) for group in groups], dtype=np.int64)

    def expected(self, groups: Sequence[Group], ticks: Ints, window_ms: int) -> Floats:
        """Usual count in [tick - window, tick), of shape (groups, ticks); NaN where unknown."""
        if not groups or not len(ticks):
            return np.zeros((len(groups), len(ticks)))
        levels = np.array([self._window(int(tick), window_ms) for tick in ticks]).T
        found: Floats = levels[self._known(groups)]
        return found

    def ratio(self, groups: Sequence[Group], ticks: Ints, window_ms: int) -> Floats:
        """Usual ratio in the window, of shape (groups, ticks); NaN where unknown."""
        return self.expected(groups, ticks, window_ms) * (HOUR_MS / window_ms)

    def spreads(self, groups: Sequence[Group]) -> Floats:
        """Spread of each group, of shape (groups, 1); NaN where unknown."""
        padded = np.append(self.spread, np.nan)
        found: Floats = padded[self.rows(groups)][:, None]
        return found

    def _known(self, groups: Sequence[Group]) -> Ints:
        rows = self.rows(groups)
        return np.where(rows < 0, len(self.groups), rows)

    def _window(self, tick: int, window_ms: int) -> Floats:
        """Level of each group over one window, hours weighed by their share in it."""
        level = np.vstack([self.level, np.full((1, WEEK_HOURS), np.nan)])
        total = np.zeros(len(level))
        at = tick - window_ms
        while at < tick:
            hour = at // HOUR_MS
            until = min(tick, (hour + 1) * HOUR_MS)
            total += level[:, hour % WEEK_HOURS] * ((until - at) / HOUR_MS)
            at = until
        return total


def volume_profile(history: Panel, names: Sequence[str]) -> Profile:
    """Usual counts by hour of the week, from a panel of whole hours."""
    weeks = _by_week(history.total(names), history)
    return _profile(history.groups, weeks, floor=0.5)


def ratio_profile(history: Panel, numerator: Sequence[str], denominator: Sequence[str]) -> Profile:
    """Usual ratios by hour of the week; an hour with few events borrows from its neighbours."""
    top, bottom = (_by_week(history.total(n), history) for n in (numerator, denominator))
    top, bottom = (_smoothed(x) for x in (top, bottom))
    enough = bottom >= MIN_DENOMINATOR
    ratios = np.where(enough, top / np.maximum(bottom, 1), np.nan)
    return _profile(history.groups, ratios, floor=1e-4)


def usual_ratio(history: Panel, numerator: Sequence[str], denominator: Sequence[str]) -> Floats:
    """Median of the hourly ratios of each group, shape (groups,); NaN without a day of them."""
    top, bottom = history.total(numerator), history.total(denominator)
    enough = bottom >= MIN_DENOMINATOR
    ratios = np.where(enough, top / np.maximum(bottom, 1), np.nan)
    found = np.full(len(history.groups), np.nan)
    for i, row in enumerate(ratios):
        if enough[i].sum() >= MIN_HOURS:
            found[i] = np.nanmedian(row)
    return found


def wilson(successes: Floats, trials: Floats, certainty: float) -> tuple[Floats, Floats]:
    """Bounds of a share, `certainty` standard errors wide. Source: Wilson, JASA 22 (1927)."""
    n = np.maximum(trials, 1)
    p = np.clip(successes / n, 0, 1)
    z2 = certainty**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = certainty / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return middle - half, middle + half


def _by_week(hours: Floats, history: Panel) -> Floats:
    """Counts by group, week and hour of the week: (groups, weeks, 168). Whole weeks only."""
    first = history.start_ms // HOUR_MS
    weeks = hours.shape[1] // WEEK_HOURS
    kept = hours[:, hours.shape[1] - weeks * WEEK_HOURS :]
    first += hours.shape[1] - weeks * WEEK_HOURS
    shaped = kept.reshape(len(hours), weeks, WEEK_HOURS)
    return np.roll(shaped, first % WEEK_HOURS, axis=2)


def _smoothed(weeks: Floats) -> Floats:
    smooth: Floats = weeks + np.roll(weeks, 1, axis=2) + np.roll(weeks, -1, axis=2)
    return smooth


def _profile(groups: list[Group], weeks: Floats, *, floor: float) -> Profile:
    """Level and spread of weeks of shape (groups, weeks, 168), NaN where nothing is known."""
    count = weeks.shape[1]
    if count < MIN_WEEKS or not groups:
        unknown = np.full((len(groups), WEEK_HOURS), np.nan)
        return Profile(groups, unknown, unknown[:, 0])
    level = _median(weeks, 1)
    residuals = [
        np.log(weeks[:, week] + floor) - np.log(_median(np.delete(weeks, week, axis=1), 1) + floor)
        for week in range(count)
    ]
    # quiet hours vary by chance alone, which the caller adds by itself
    busy = level > 10 * floor
    found = np.concatenate([np.where(busy, r, np.nan) for r in residuals], axis=1)
    spread = MAD_TO_SIGMA * _median(np.abs(found), 1)
    return Profile(groups, level, np.maximum(spread, SMALLEST_SPREAD))


def _median(values: Floats, axis: int) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nothing but NaN it is NaN
        found: Floats = np.nanmedian(values, axis=axis)
    return found
