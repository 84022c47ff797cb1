"""Rows of events flowing at set rates: how soon they are visible, and what is sustained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from herald.bench.flow import POLL_SECONDS, Flow, run_flow
from herald.bench.recovery import Recovery
from herald.bench.rows import BenchRow, row
from herald.bench.stats import percentile
from infra.local.platform import Platform

VISIBLE_RATES = (1_000, 10_000, 50_000)
VISIBLE_SECONDS = 60.0
CANARIES_PER_S = 5.0
SUSTAINED_SECONDS = 300.0
SUSTAINED_RATE = 100_000
RECOVERY_RATE = 50_000
KEPT_UP = 0.98
"""A producer that sends less than this share of its rate did not produce at it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows, and the points of plots by name."""

    rows: list[BenchRow]
    series: dict[str, list[dict[str, Any]]]


def measure_visible(
    platform: Platform,
    rates: Iterable[float] = VISIBLE_RATES,
    seconds: float = VISIBLE_SECONDS,
    canaries: float = CANARIES_PER_S,
) -> Measured:
    """Produced-to-visible latency at several rates; the rows are those of the last, highest one."""
    flows = [run_flow(platform, rate, seconds, canaries=canaries) for rate in sorted(rates)]
    points = [_latency_point(flow) for flow in flows]
    last, point = flows[-1], points[-1]
    valid = (
        last.rate >= VISIBLE_RATES[-1]
        and not last.unseen
        and last.sent >= KEPT_UP * last.rate * seconds
    )
    others = ", ".join(f"{p['p50_s']} / {p['p99_s']} at {p['rate']}/s" for p in points)
    detail = (
        "from when an event is due at the producer until live.events_second counts it, asked for "
        f"every {POLL_SECONDS} s; {point['canaries']} canaries at {last.rate:.0f} events/s, "
        f"producer on the same cores; p50 / p99 in s: {others}"
    )
    return Measured(
        [
            row("visible_p50_s", point["p50_s"], detail, valid=valid),
            row("visible_p99_s", point["p99_s"], detail, valid=valid),
        ],
        {"visible": points, "cpu_by_rate": [p for flow in flows for p in cpu_points(flow)]},
    )


def _latency_point(flow: Flow) -> dict[str, Any]:
    return {
        "rate": round(flow.rate),
        "p50_s": round(percentile(flow.latencies, 0.5), 3),
        "p90_s": round(percentile(flow.latencies, 0.9), 3),
        "p99_s": round(percentile(flow.latencies, 0.99), 3),
        "max_s": round(max(flow.latencies), 3),
        "canaries": len(flow.latencies),
        "unseen": flow.unseen,
    }


def cpu_points(flow: Flow) -> list[dict[str, Any]]:
    """µs of CPU an event of one flow, by process."""
    return [
        {"rate": round(flow.rate), "process": name, "cpu_us": used}
        for name, used in flow.cpu.items()
    ]


def measure_sustained(
    platform: Platform, rate: float = SUSTAINED_RATE, seconds: float = SUSTAINED_SECONDS
) -> Measured:
    """What is landed a second while the producer goes on, and whether lag grows."""
    flow = run_flow(platform, rate, seconds)
    lag = flow.lag
    grows = lag.grows(rate)
    produced = flow.sent / seconds
    value = min(flow.landed_per_s, produced)
    detail = (
        f"{flow.sent} events, at {rate:.0f}/s for {seconds:.0f} s from a producer on the same "
        f"cores; lag {'grows' if grows else 'does not grow'}: {lag.slope:+.0f} events/s (standard "
        f"error {lag.error:.0f}), rising {lag.rise:.0f} over the run where a second's worth is "
        f"allowed; lag at the end {flow.samples[-1].lag}, highest "
        f"{max(s.lag for s in flow.samples)}"
    )
    if seconds < SUSTAINED_SECONDS:
        detail += f"; a goal is met by {SUSTAINED_SECONDS:.0f} s only"
    return Measured(
        [
            row(
                "landing_sustained_events_per_s",
                # an offer that was taken in full is the rate, not what its last batch rounds to
                rate if not grows and produced >= KEPT_UP * rate else value,
                detail,
                valid=not grows and seconds >= SUSTAINED_SECONDS,
            )
        ],
        {
            "lag": [
                {"seconds": round(s.seconds, 1), "lag": s.lag, "rate": round(rate)}
                for s in flow.samples
            ],
            "cpu_sustained": cpu_points(flow),
        },
    )


def find_highest(
    platform: Platform, start: float, seconds: float, precision: float = 5_000
) -> list[dict[str, Any]]:
    """Try rates until the highest whose lag does not grow is known to `precision`.

    Returns:
        The tries in order: `rate`, `grows`, `slope`, `kept_up`.
    """
    tries: list[dict[str, Any]] = []

    def holds(rate: float) -> bool:
        flow = run_flow(platform, rate, seconds)
        kept_up = flow.sent >= KEPT_UP * rate * seconds
        grows = flow.lag.grows(rate)
        tries.append(
            {
                "rate": round(rate),
                "grows": grows,
                "slope": round(flow.lag.slope, 1),
                "kept_up": kept_up,
            }
        )
        return kept_up and not grows

    low, high = 0.0, start
    while holds(high):
        low, high = high, high * 1.25
    while high - low > precision:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return tries


def recovery_measured(found: list[Recovery], rate: float) -> Measured:
    """`recovery_s`: the longest of the kills."""
    slowest = max(found, key=lambda r: r.seconds)
    each = ", ".join(f"{r.victim} {r.seconds:.1f} s" for r in found)
    detail = (
        f"longest of: {each}; from SIGKILL of the service with its children until events due "
        "after it have landed and lag is in the range of the steady seconds before, at "
        f"{rate:.0f} events/s; events that "
        "were due and could not be produced count as lag"
    )
    return Measured(
        [row("recovery_s", slowest.seconds, detail, valid=rate >= RECOVERY_RATE)],
        {
            "recovery": [
                {
                    "victim": r.victim,
                    "seconds": round(r.seconds, 2),
                    "lag_before": r.lag_before,
                    "lag_most": r.lag_most,
                }
                for r in found
            ],
            "recovery_lag": [
                {"victim": r.victim, "seconds": s, "lag": lag} for r in found for s, lag in r.curve
            ],
        },
    )
