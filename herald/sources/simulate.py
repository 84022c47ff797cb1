"""Writes a simulation into a sink, with its truth beside it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from herald.simulator.encode import compact
from herald.simulator.options import SimulationOptions
from herald.simulator.stream import Simulation
from herald.sources.producer import Record
from herald.sources.progress import Meter
from herald.sources.sinks import EVENTS, Sink

REFERENCE_CHUNK = 10_000


def simulate(
    options: SimulationOptions, sink: Sink, meter: Meter, truth_folder: Path, *, rate: float = 0.0
) -> dict[str, Any]:
    """Run a simulation into a sink: reference records first, then the events in order.

    Returns what the truth says was produced, the reference records by entity, and the path of
    the truth. A rate (events/s) cuts batches so that events flow evenly.
    """
    run = Simulation(options)
    references: dict[str, int] = {}
    for stream, records in run.references().items():
        count = 0
        while chunk := [
            (key, compact(value).encode()) for key, value in islice(records, REFERENCE_CHUNK)
        ]:
            sink.write(stream, chunk)
            count += len(chunk)
        references[stream] = count
    step = max(1, int(rate / 10)) if rate else 1 << 30
    for batch in run.batches():
        keys, values = batch.keys.to_list(), batch.values.to_list()
        found: list[Record] = list(zip(keys, values, strict=True))
        for start in range(0, len(found), step):
            part = found[start : start + step]
            sink.write(EVENTS, part)
            meter.advance(len(part))
    truth = run.write_truth(truth_folder)
    return {"events": run.truth.produced, "references": references, "truth": str(truth)}
