"""Counts in the shape that detection wants: a row a group, a column a step of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Group = tuple[str, ...]
"""Tenant, then the values of the rule's `group_by`, in its order."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Counts of some groups over equal steps of time.

    values: by name of the count, of shape (groups, steps). Times are Unix ms.
    """

    groups: list[Group]
    start_ms: int
    step_ms: int
    values: dict[str, Floats]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(next(iter(self.values.values())).shape[1])

    @property
    def end_ms(self) -> int:
        """End of the last step."""
        return self.start_ms + self.steps * self.step_ms

    def total(self, names: Sequence[str]) -> Floats:
        """Sum of some counts, of shape (groups, steps)."""
        total: Floats = np.sum([self.values[name] for name in names], axis=0)
        return total

    def before(self, names: Sequence[str], ticks: Ints, window_ms: int) -> Floats:
        """Sum over [tick - window, tick) for each tick, of shape (groups, ticks).

        What lies before the first step counts as nothing.
        """
        running = np.cumsum(self.total(names), axis=1)
        running = np.concatenate([np.zeros((len(self.groups), 1)), running], axis=1)
        high = self._place(ticks)
        low = self._place(ticks - window_ms)
        sums: Floats = running[:, high] - running[:, low]
        return sums

    def _place(self, times: Ints) -> Ints:
        return np.clip((times - self.start_ms) // self.step_ms, 0, self.steps)


def panel_of(
    frame: pl.DataFrame,
    dimensions: Sequence[str],
    counts: Sequence[str],
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> Panel:
    """Build a panel from rows of (tenant_id, *dimensions, at, *counts); `at` is a step's start.

    Rows outside [start, end) are left out.
    """
    keys = ["tenant_id", *dimensions]
    steps = max(0, -(-(end_ms - start_ms) // step_ms))
    inside = frame.filter(pl.col("at").is_between(start_ms, end_ms, closed="left"))
    found = inside.select(keys).unique().sort(keys)
    groups: list[Group] = [tuple(map(str, row)) for row in found.iter_rows()]
    placed = inside.join(found.with_row_index("group"), on=keys, how="inner")
    row = placed["group"].to_numpy().astype(np.int64)
    column = (placed["at"].to_numpy() - start_ms) // step_ms
    values = {}
    for name in counts:
        matrix = np.zeros((len(groups), steps))
        np.add.at(matrix, (row, column), placed[name].to_numpy().astype(np.float64))
        values[name] = matrix
    return Panel(groups, start_ms, step_ms, values)
