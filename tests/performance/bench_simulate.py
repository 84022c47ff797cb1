"""How many events a second the simulator makes on one core, JSON lines included.

Run: `python tests/performance/bench_simulate.py [EVENTS]`. The measurement runs in a process of
its own, pinned to one core with one polars thread; the lines go to the null device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NAME = "simulate_events_per_s"
GOAL = 200_000
EVENTS = 1_000_000
ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import json, os, sys, time
from datetime import UTC, datetime
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
from herald.simulator.options import SimulationOptions
from herald.simulator.stream import Simulation
from herald.sources.sinks import EVENTS, FileSink
from pathlib import Path
run = Simulation(SimulationOptions(events=int(sys.argv[1]), end=datetime(2026, 11, 1, tzinfo=UTC)))
wall, cpu, size, count = time.perf_counter(), time.process_time(), 0, 0
with FileSink(Path(os.devnull)) as sink:
    for batch in run.batches():
        records = list(zip(batch.keys.to_list(), batch.values.to_list(), strict=True))
        sink.write(EVENTS, records)
        size += int(batch.values.bin.size().sum())
        count += len(records)
print(json.dumps({"events": count, "bytes": size, "wall": time.perf_counter() - wall,
                  "cpu": time.process_time() - cpu}))
"""


def measure(events: int = EVENTS) -> dict[str, Any]:
    """One row of `bench.json`: events per second of one core, and by the clock in the detail."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(events)],
        cwd=ROOT, env={**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    value = found["events"] / found["cpu"]
    size, wall = found["bytes"] / found["events"], found["events"] / found["wall"]
    return {
        "name": NAME,
        "value": round(value),
        "unit": "events/s",
        "goal": GOAL,
        "better": "higher",
        "met": value >= GOAL,
        "detail": (
            f"{found['events']} events of {size:.0f} bytes, faults on, written as JSON lines by "
            f"one thread on one core: per second of that core; {wall:.0f} by the clock, shared "
            "with whatever else ran"
        ),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)) + "\n")
