"""A progress bar with a rate, on standard error, and the pacing of `--rate`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Records per second since the start."""

    def render(self, task: Task) -> Text:
        """Rate so far."""
        seconds = task.finished_time or task.elapsed or 0.0
        return Text(f"{task.completed / seconds:,.0f}/s" if seconds else "")


class Meter:
    """Counts records, shows them, and holds them back to a rate."""

    def __init__(self, progress: Progress, label: str, total: int | None, rate: float) -> None:
        self.count = 0
        self._progress = progress
        self._task = progress.add_task(label, total=total)
        self._rate = rate
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def advance(self, records: int) -> None:
        """Count records; with a rate, wait until they are due."""
        self.count += records
        self._progress.update(self._task, completed=self.count)
        if self._rate:
            ahead = self.count / self._rate - self.seconds
            if ahead > 0:
                time.sleep(ahead)


@contextmanager
def meter(
    label: str, total: int | None, *, rate: float = 0.0, quiet: bool = False
) -> Iterator[Meter]:
    """Show a bar while the block runs; nothing when quiet or not on a terminal."""
    console = Console(file=sys.stderr)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(),
        TimeElapsedColumn(), console=console, disable=quiet,
    ) as progress:  # fmt: skip
        yield Meter(progress, label, total, rate)
