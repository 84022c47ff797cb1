"""`herald bench cost`: CPU of an event by stage, as batches, fields and rates grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from herald.bench.comparison import spark_lines
from herald.bench.flow import await_caught_up, run_flow
from herald.bench.rates import cpu_points
from herald.bench.rows import save
from herald.bench.stage import await_merges, produce
from herald.bench.suite import bench_platform
from herald.records import now
from herald.settings import Settings

LARGEST_BATCH = 300_000
PARTITIONS = 6
RATES = (1_000, 10_000, 50_000, 100_000)


def run_cost_bench(
    settings: Settings,
    events: int,
    seconds: float,
    output: Path | None,
    *,
    command: str,
    rates: tuple[int, ...] = RATES,
) -> list[dict[str, Any]]:
    """Measure on a platform of its own; points go into the record under `cost` and `cost_by_rate`.

    Args:
        settings: the landing's limits are taken from them.
        events: of each batch size; at least two of the largest batch fit in 600,000.
        seconds: of each rate.
        output: the record; None is `<state_dir>/bench.json`.
        command: what was run, for the record.
        rates: events a second.

    Returns:
        Points of `kind` batch or fields: µs of CPU an event of fetch, parse, insert_client,
        insert_server (the engine's own count, with the rollups) and merges (all else the server
        did until calm); then points of `kind` rate: µs an event by process.

    Raises:
        BenchError: a process of the measurement failed.
    """
    started = now()
    with bench_platform(settings, ["kafka", "warehouse"]) as platform:
        own = platform.settings
        # so that every partition holds a batch of the largest size where events allow it
        produce(own, max(events, min(events * 2, LARGEST_BATCH * PARTITIONS)), seed=4)
        pid = str(platform.supervisor.info("warehouse")["pid"])
        points = list(spark_lines(own, "spark_jobs.bench.cost", str(events), pid))
        by_rate: list[dict[str, Any]] = []
        platform.up(["landing"])
        await_caught_up(own)
        for rate in rates:
            await_merges(own)
            by_rate += cpu_points(run_flow(platform, rate, seconds))
    path = output or settings.state_dir / "bench.json"
    series = {"cost": points, "cost_by_rate": by_rate}
    save(path, [], command=command, started_at=started, series=series)
    return [*points, *({"kind": "rate", **point} for point in by_rate)]
