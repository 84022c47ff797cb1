"""The run: a seeded series of faults against one platform, a count after each."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from herald.chaos.control import control_duplicates
from herald.chaos.count import Comparison, Count
from herald.chaos.rig import ChaosError, Rig, own_settings
from herald.chaos.scenarios import Scenario, all_scenarios, not_possible
from herald.settings import Settings

SETTLE_SECONDS = 600.0
"""Patience only: a machine busy with other work is slow, not wrong."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault and what it cost. Fields of `var/chaos.json`."""

    n: int
    victim: str
    moment: str
    lost: int
    duplicated: int
    rollup_difference: int
    recovery_seconds: float
    is_kill: bool = True
    rollup_at_cut: int = 0


def draw(scenarios: Sequence[Scenario], kills: int, seed: int) -> list[Scenario]:
    """A seeded series of `kills` kills, each kind at least once where there is room for it.

    Faults without a kill come in between: each once for every 50 kills, at least once.
    """
    rng = random.Random(seed)
    deadly = [s for s in scenarios if s.is_kill]
    others = [s for s in scenarios if not s.is_kill]
    drawn = rng.sample(deadly, k=min(kills, len(deadly)))
    if deadly:
        drawn += rng.choices(deadly, [s.weight for s in deadly], k=max(0, kills - len(drawn)))
    drawn += others * max(1, kills // 50)
    rng.shuffle(drawn)
    return drawn


class Chaos:
    """Strikes at a rig, waits until it is well again, counts."""

    def __init__(self, rig: Rig, seed: int, say: Say) -> None:
        self._rig, self._say = rig, say
        self._rng = random.Random(seed)
        self._comparison = Comparison(rig.topic)
        self.blows: list[Blow] = []
        self.kills = 0

    def strike(self, scenario: Scenario) -> Blow:
        """One scenario.

        Raises:
            ChaosError: the platform did not come back, or there was nothing to strike at.
        """
        at = scenario.strike(self._rig, self._rng)
        self._rig.wait_caught_up(SETTLE_SECONDS)
        seconds = time.monotonic() - at
        found = self.count()
        self.kills += scenario.is_kill
        blow = Blow(
            len(self.blows) + 1,
            scenario.victim,
            scenario.moment,
            found.lost,
            found.duplicated,
            found.rollup_difference,
            round(seconds, 1),
            scenario.is_kill,
            found.rollup_at_cut,
        )
        self.blows.append(blow)
        self._say(
            f"{blow.n:>4} {scenario.name:<30} {blow.recovery_seconds:>6.1f} s  "
            f"lost {found.lost} doubled {found.duplicated} rollups {found.rollup_difference:g}  "
            f"({found.produced} produced, {found.dead_lettered} dead letters)"
        )
        return blow

    def count(self) -> Count:
        """Hold the producer, let everything land, compare, go on."""
        producer = self._rig.producer
        producer.pause()
        try:
            ends = self._rig.end_offsets()
            total = sum(ends.values())
            self._rig.wait(
                "everything landed", lambda: self._rig.covered() >= total, SETTLE_SECONDS
            )
            return self._comparison.compare(self._rig.client(), ends, producer.delivered)
        finally:
            producer.resume()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found: blows in their order, the control's duplicates, what could not run."""

    blows: list[Blow]
    control_duplicates: int
    not_run: dict[str, str]


def run_chaos(
    settings: Settings, *, kills: int, seed: int, rate: int, minutes: float, only: str, say: Say
) -> Outcome:
    """Start a platform of its own, strike until the series or the time ends, count after each.

    Raises:
        ChaosError: no such scenario, or the platform did not come back by itself.
    """
    scenarios = [s for s in all_scenarios() if not only or only in {s.name, s.victim}]
    if not scenarios:
        known = ", ".join(s.name for s in all_scenarios())
        raise ChaosError(f"no scenario {only!r}; there are: {known}")
    deadline = time.monotonic() + minutes * 60
    with (
        tempfile.TemporaryDirectory(prefix="herald-chaos-") as folder,
        Rig(own_settings(Path(folder), settings), rate=rate, seed=seed) as rig,
    ):
        rig.learn_steady()
        duplicates = control_duplicates(rig)
        say(f"     at-least-once control: {duplicates} duplicates")
        not_run = {s.name: why for s in scenarios if (why := not_possible(s, rig))}
        for name, why in not_run.items():
            say(f"     {name} is not run: {why}")
        chaos = Chaos(rig, seed, say)
        for scenario in draw([s for s in scenarios if s.name not in not_run], kills, seed):
            if time.monotonic() > deadline:
                say(f"time is up after {chaos.kills} kills")
                break
            chaos.strike(scenario)
        return Outcome(chaos.blows, duplicates, not_run)


def table(blows: Sequence[Blow]) -> list[dict[str, Any]]:
    """One row for each victim and moment: how often, what it cost, how long it took."""
    groups: dict[tuple[str, str], list[Blow]] = {}
    for blow in blows:
        groups.setdefault((blow.victim, blow.moment), []).append(blow)
    return [
        {
            "victim": victim,
            "moment": moment,
            "times": len(group),
            "lost": sum(b.lost for b in group),
            "duplicated": sum(b.duplicated for b in group),
            "rollup_difference": sum(b.rollup_difference for b in group),
            "recovery_median_s": sorted(b.recovery_seconds for b in group)[len(group) // 2],
            "recovery_max_s": max(b.recovery_seconds for b in group),
        }
        for (victim, moment), group in sorted(groups.items())
    ]


def record(outcome: Outcome) -> dict[str, Any]:
    """Fields of `var/chaos.json`: kills, faults without a kill, and the sums over both."""
    blows = outcome.blows
    return {
        "kills": [asdict(b) for b in blows if b.is_kill],
        "faults": [asdict(b) for b in blows if not b.is_kill],
        "not_run": outcome.not_run,
        "summary": {
            "kills": sum(b.is_kill for b in blows),
            "faults": sum(not b.is_kill for b in blows),
            "lost": sum(b.lost for b in blows),
            "duplicated": sum(b.duplicated for b in blows),
            "rollup_difference": sum(b.rollup_difference for b in blows),
            "control_duplicates": outcome.control_duplicates,
        },
    }
