"""Statistics of a run: percentiles of latencies, and whether a lag grows. No input or output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed.

    Nearest rank, so the answer is a value that was measured.

    Raises:
        ValueError: no values, or a share outside 0 to 1.
    """
    if not values:
        raise ValueError("values: none; a percentile needs at least one")
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share} is not between 0 and 1")
    # rounding first: 0.07 * 100 is a little more than 7
    rank = max(1, math.ceil(round(share * len(values), 9)))
    return sorted(values)[rank - 1]


@dataclass(frozen=True, slots=True)
class Trend:
    """A regression line through samples of a quantity over time.

    Attributes:
        slope: units a second.
        error: standard error of the slope, widened for neighbours that resemble each other.
        seconds: from the first sample to the last.
    """

    slope: float
    error: float
    seconds: float

    @property
    def rise(self) -> float:
        """How much the line rises from the first sample to the last."""
        return self.slope * self.seconds

    def grows(self, a_second: float) -> bool:
        """Whether a lag grows: the line rises by more than one second's worth of events.

        Args:
            a_second: events of a second.
        """
        return self.rise > a_second


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Least squares of values over times (s).

    A lag swings with each batch, so its samples are no independent ones: their number is taken as
    n (1 - r) / (1 + r) with the residuals' correlation r at one step (Bartlett).

    Raises:
        ValueError: fewer than three samples, or all at one time.
    """
    x, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    if len(x) < 3 or len(x) != len(y) or np.ptp(x) == 0:
        raise ValueError(f"times: {len(x)} samples; a trend needs three at different times")
    x = x - x.mean()
    slope = float((x @ y) / (x @ x))
    rest = y - y.mean() - slope * x
    power = float(rest @ rest)
    if power == 0:
        return Trend(slope, 0.0, float(np.ptp(x)))
    alike = min(max(float(rest[1:] @ rest[:-1]) / power, 0.0), 0.99)
    independent = max(len(x) * (1 - alike) / (1 + alike), 3.0)
    error = math.sqrt(power / (len(x) - 2) * len(x) / independent / float(x @ x))
    return Trend(slope, error, float(np.ptp(x)))
