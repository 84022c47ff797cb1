"""`herald bench all`: every row in one run on one platform, saved as soon as it is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from herald.bench.api import ApiBenchError, run_api_bench
from herald.bench.comparison import from_json_row
from herald.bench.landing import measure_landing
from herald.bench.rates import (
    RECOVERY_RATE,
    SUSTAINED_RATE,
    SUSTAINED_SECONDS,
    VISIBLE_RATES,
    VISIBLE_SECONDS,
    Measured,
    find_highest,
    measure_sustained,
    measure_visible,
    recovery_measured,
)
from herald.bench.recovery import SETTLE_SECONDS, STEADY_SECONDS, run_recoveries
from herald.bench.rows import save
from herald.bench.stage import BenchError, await_broker, await_merges, own_settings
from herald.bench.watch import LIVE_CLIENTS, LIVE_SECONDS, measure_live
from herald.records import now
from herald.settings import Settings
from herald.sources.errors import SourceError
from herald.warehouse.client import connect
from herald.warehouse.dbt import DbtMissingError, run_dbt
from infra.local.platform import Platform, to_stderr
from infra.local.service import PlatformError, Progress

FROM_JSON_EVENTS = 1_000_000
API_REQUESTS = 2_000

ROWS_OF: dict[str, tuple[str, ...]] = {
    "landing": (
        "landing_drain_events_per_s",
        "landing_over_limit",
        "landing_over_python_consumer",
        "simulate_events_per_s",
        "compressed_over_json",
    ),
    "from_json": ("landing_over_from_json",),
    "api": ("api_p99_ms",),
    "visible": ("visible_p50_s", "visible_p99_s"),
    "sustained": ("landing_sustained_events_per_s",),
    "live": ("live_clients", "live_p99_s"),
    "recovery": ("recovery_s",),
}
"""Steps in the order they are run, and the rows of each."""


@dataclass(frozen=True)
class Plan:
    """How large a run is.

    Attributes:
        events: backlog to drain.
        seconds: of each flow; 0 is the full length of each.
        sustained_seconds: of the sustained one, where it is another.
        sustained_rate: events/s that are sustained.
        rate: events/s of recovery, live page and the highest of the visible ones; 0 is the goal's.
        clients: of the live page.
        highest: look for the highest rate whose lag does not grow.
    """

    events: int = 3_000_000
    seconds: float = 0.0
    sustained_seconds: float = 0.0
    sustained_rate: float = SUSTAINED_RATE
    rate: float = 0.0
    clients: int = LIVE_CLIENTS
    highest: bool = False

    def long(self, full: float) -> float:
        """Seconds of a flow whose full length is given."""
        return self.seconds or full


def chosen_steps(only: Collection[str]) -> list[str]:
    """Steps named, or whose rows are named, with what they need; all when nothing is.

    Raises:
        BenchError: a name that is neither.
    """
    known = {name: step for step, names in ROWS_OF.items() for name in (step, *names)}
    if unknown := sorted(set(only) - known.keys()):
        raise BenchError(f"--only {', '.join(unknown)}: there are {', '.join(known)}")
    steps = {known[name] for name in only} or set(ROWS_OF)
    if "from_json" in steps or "api" in steps:
        steps.add("landing")  # the same events, drained by ours
    return [step for step in ROWS_OF if step in steps]


@dataclass
class Suite:
    """One run. What fails is told at the end; what was measured before and after it is saved."""

    platform: Platform
    plan: Plan
    output: Path
    command: str
    started: datetime
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    drain: float = 0.0

    def run(self, steps: Collection[str], tell: Progress) -> None:
        """Measure the steps in their order."""
        actions: dict[str, Callable[[], Measured]] = {
            "landing": self._landing,
            "from_json": self._from_json,
            "api": self._api,
            "visible": self._visible,
            "sustained": self._sustained,
            "live": self._live,
            "recovery": self._recovery,
        }
        for step in steps:
            tell(f"measuring: {step}")
            try:
                measured = actions[step]()
            except (
                BenchError,
                ApiBenchError,
                SourceError,
                PlatformError,
                DbtMissingError,
            ) as error:
                self.problems.append(f"{step}: {error}")
                tell(f"{step}: {error}")
                continue
            self.rows += save(
                self.output,
                measured.rows,
                command=self.command,
                started_at=self.started,
                series=measured.series,
            )

    def _landing(self) -> Measured:
        rows = measure_landing(self.platform.settings, self.plan.events)
        self.drain = next(r.value for r in rows if r.name == "landing_drain_events_per_s")
        return Measured(rows, {})

    def _from_json(self) -> Measured:
        if not self.drain:
            raise BenchError("nothing to compare with: the drain was not measured")
        settings = self.platform.settings
        events = min(FROM_JSON_EVENTS, self.plan.events)
        client = connect(settings.warehouse)
        try:
            return Measured([from_json_row(settings, client, events, self.drain)], {})
        finally:
            client.close()

    def _api(self) -> Measured:
        built = run_dbt(self.platform.settings, ["build"], capture=True)
        if built.returncode:
            raise BenchError(f"dbt build failed:\n{(built.stdout or '')[-1_500:]}")
        self.platform.up(["api"])
        requests = API_REQUESTS if not self.plan.seconds else 200
        try:
            return Measured([run_api_bench(self.platform.settings, requests)], {})
        finally:
            self.platform.stop("api")  # what follows has the cores to itself

    def _visible(self) -> Measured:
        self._up("landing")
        highest = self.plan.rate or VISIBLE_RATES[-1]
        rates = [rate for rate in VISIBLE_RATES if rate < highest] + [highest]
        return measure_visible(self.platform, rates, self.plan.long(VISIBLE_SECONDS))

    def _sustained(self) -> Measured:
        self._up("landing")
        seconds = self.plan.sustained_seconds or self.plan.long(SUSTAINED_SECONDS)
        measured = measure_sustained(self.platform, self.plan.sustained_rate, seconds)
        if self.plan.highest:
            tries = find_highest(
                self.platform, self.plan.sustained_rate, self.plan.long(SUSTAINED_SECONDS / 5)
            )
            measured.series["highest"] = tries
        return measured

    def _live(self) -> Measured:
        self._up("landing", "api")
        rate = self.plan.rate or RECOVERY_RATE
        seconds = self.plan.long(LIVE_SECONDS)
        try:
            return measure_live(self.platform, rate, seconds, clients=self.plan.clients)
        finally:
            self.platform.stop("api")

    def _recovery(self) -> Measured:
        self._up("landing")
        rate = self.plan.rate or RECOVERY_RATE
        found = run_recoveries(
            self.platform,
            rate,
            settle=self.plan.long(SETTLE_SECONDS),
            steady=self.plan.long(STEADY_SECONDS),
        )
        return recovery_measured(found, rate)

    def _up(self, *services: str) -> None:
        self.platform.up(services)
        await_broker(self.platform.settings)
        await_merges(self.platform.settings)


def run_all(
    settings: Settings,
    *,
    plan: Plan,
    only: Collection[str] = (),
    output: Path | None = None,
    command: str = "herald bench all",
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure on a platform of its own in a temporary folder.

    Args:
        settings: the landing's limits are taken from them.
        plan: how large.
        only: steps or rows; none is all.
        output: the record; None is `<state_dir>/bench.json`.
        command: what was run, for the record.

    Returns:
        The rows, and what could not be measured.

    Raises:
        BenchError: `only` names what there is not.
    """
    steps = chosen_steps(only)
    started = now()
    path = output or settings.state_dir / "bench.json"
    with bench_platform(settings, ["kafka", "warehouse"]) as platform:
        suite = Suite(platform, plan, path, command, started)
        suite.run(steps, to_stderr)
    return suite.rows, suite.problems


@contextmanager
def bench_platform(settings: Settings, services: Collection[str]) -> Iterator[Platform]:
    """A platform in a temporary folder, ended with its measurement."""
    with tempfile.TemporaryDirectory(prefix="herald-bench-") as folder:
        platform = Platform(own_settings(Path(folder), settings), attached=True)
        try:
            platform.up(services)
            await_broker(platform.settings)
            yield platform
        finally:
            platform.down()
