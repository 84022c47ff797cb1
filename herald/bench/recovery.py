"""`recovery_s`: from a kill under load until landing is where it was before the kill."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from herald.bench.flow import LandedCount, Producing, await_landed, producing
from herald.bench.pacer import Pace
from herald.bench.stage import BenchError
from infra.local.platform import Platform

VICTIMS = ("landing", "warehouse", "kafka")
SETTLE_SECONDS = 15.0
STEADY_SECONDS = 15.0
PATIENCE_SECONDS = 180.0
SAMPLE_SECONDS = 0.25
TOLERANCE = 1.25
"""Lag swings from batch to batch; this much above the highest seen before is the same range."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one kill led to.

    Attributes:
        victim: the service that got SIGKILL with all of its children.
        seconds: from the kill until events due after it had landed, lag back in its range.
        lag_before: highest lag of the steady seconds before the kill, events.
        lag_most: highest lag after it, events.
        curve: (seconds since the kill, lag) while it lasted.
    """

    victim: str
    seconds: float
    lag_before: int
    lag_most: int
    curve: Sequence[tuple[float, int]]


def run_recoveries(
    platform: Platform,
    rate: float,
    *,
    victims: Sequence[str] = VICTIMS,
    settle: float = SETTLE_SECONDS,
    steady: float = STEADY_SECONDS,
    within: float = 1.0,
    pool: int = 200_000,
) -> list[Recovery]:
    """Kill one service after the other while events are produced at a rate.

    Lag is what the schedule asks for less what the ledger accounts for, so events that a dead
    broker could not take count as well. The stream never stands still, so "zero" is the range of
    the steady seconds before the kill. It is recovered once events that were due after the kill
    have landed and lag is in that range.

    Args:
        platform: with broker, warehouse and landing up, and nothing else in the events topic.
        rate: events a second.
        victims: services, in the order in which they are killed.
        settle: seconds before each that are not looked at.
        steady: seconds before each that tell the range of the lag.
        within: a lag of so many seconds of events is in the range, whatever it was before.
        pool: different events that are simulated.

    Raises:
        BenchError: a service did not come back, or lag did not.
    """
    settings = platform.settings
    seconds = len(victims) * (settle + steady + PATIENCE_SECONDS)
    pace = Pace(settings.kafka.servers, settings.kafka.topics.events, rate, seconds, pool)
    found = []
    with producing(platform, pace) as (source, landed):
        for victim in victims:
            _pause(source, settle)
            found.append(_recover(platform, source, landed, victim, steady, within))
        source.end()
        await_landed(landed, source.acknowledged)
    return found


def _pause(source: Producing, seconds: float) -> None:
    time.sleep(seconds)
    if source.process.poll() is not None:
        raise BenchError("the producer ended before the kill; its words are in pacer.log")


def _recover(
    platform: Platform,
    source: Producing,
    landed: LandedCount,
    victim: str,
    steady: float,
    within: float,
) -> Recovery:
    before = 0
    calm = time.monotonic() + steady
    while time.monotonic() < calm:
        before = max(before, source.due() - landed.read())
        time.sleep(SAMPLE_SECONDS)
    allowed = max(before * TOLERANCE, source.pace.rate * within)
    killed, due = time.monotonic(), source.due()
    platform.kill(victim)
    curve: list[tuple[float, int]] = []
    while (elapsed := time.monotonic() - killed) < PATIENCE_SECONDS:
        count = landed.try_read()
        if count is not None:
            lag = source.due() - count
            curve.append((round(elapsed, 2), lag))
            # what was in flight may land after the kill; what was due later shows a new life
            if count > due and lag <= allowed:
                return Recovery(victim, elapsed, before, max(x for _, x in curve), tuple(curve))
        time.sleep(SAMPLE_SECONDS)
    raise BenchError(
        f"{victim}: lag was {curve[-1][1] if curve else 'unknown'} {PATIENCE_SECONDS:.0f} s after "
        f"the kill, before it {before}"
    )
