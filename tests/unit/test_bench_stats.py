"""Percentiles and the trend of a lag, on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from herald.bench.stats import percentile, trend


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (1, 100)]
)
def test_percentile_is_a_measured_value_when_ranked(share: float, expected: float) -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentile(values, share) == expected


def test_percentile_of_few_is_the_highest_when_the_share_is_high() -> None:
    assert percentile([3.0, 1.0], 0.99) == 3.0
    assert percentile([3.0, 1.0], 0.5) == 1.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5)])
def test_percentile_is_refused_when_it_means_nothing(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"values|share"):
        percentile(values, share)


def test_trend_is_exact_when_the_lag_is_a_line() -> None:
    line = trend([0, 1, 2, 3, 10], [5, 7, 9, 11, 25])
    assert (line.slope, line.rise, line.error) == (pytest.approx(2), pytest.approx(20), 0)


def test_lag_grows_only_when_it_rises_by_more_than_a_second_of_events() -> None:
    times = np.arange(0, 300, 0.5)
    saw = 40_000 * (times % 1.5)  # a batch every 1.5 s
    steady, behind = (
        trend(times.tolist(), saw.tolist()),
        trend(times.tolist(), (saw + 500 * times).tolist()),
    )
    assert not steady.grows(100_000)
    assert abs(steady.slope) < 3 * steady.error
    assert behind.grows(100_000)
    assert behind.rise == pytest.approx(150_000, rel=0.05)


def test_error_of_the_slope_covers_the_truth_when_samples_resemble_their_neighbours() -> None:
    rng = np.random.default_rng(7)
    times = np.arange(0, 200, 1.0)
    inside = 0
    for _ in range(300):
        noise = np.zeros(len(times))
        for n in range(1, len(times)):
            noise[n] = 0.7 * noise[n - 1] + rng.standard_normal()
        found = trend(times.tolist(), (3 * times + noise).tolist())
        inside += abs(found.slope - 3) < 1.96 * found.error
    assert 0.88 < inside / 300 < 0.99  # taken as independent it would be about 0.60


def test_trend_is_refused_when_samples_are_too_few() -> None:
    with pytest.raises(ValueError, match="2 samples"):
        trend([0, 1], [1, 2])
