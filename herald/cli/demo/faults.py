"""Kill a part of the platform in the middle of a load, and count what that cost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

from herald.cli.demo.counts import Reconciliation, reconcile, wait_landed
from herald.cli.demo.shell import herald_command
from herald.settings import Settings

VICTIMS = ("landing", "warehouse", "kafka")
"""Killed in turn, each once, with SIGKILL."""

EVENTS_PER_FAULT = 150_000


def kill_and_recover(
    settings: Settings,
    victim: str,
    kill: Callable[[str], object],
    *,
    seed: int,
    events: int = EVENTS_PER_FAULT,
    on_progress: Callable[[Reconciliation], None] = lambda _: None,
) -> dict[str, Any]:
    """Kill `victim` while events are produced and landed, and wait until all is accounted for.

    The kill comes when the first of the new events have landed, so that a batch is under way.

    Returns:
        killed, lost, duplicated, produced (events of this load that the broker holds),
        recovered_seconds (from the kill to nothing outstanding).

    Raises:
        StalledError: it did not recover.
        RuntimeError: the producer failed; acknowledged events would be unknown.
    """
    before = reconcile(settings)
    producer = subprocess.Popen(
        herald_command("simulate", "--events", str(events), "--seed", str(seed), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _wait_first_landed(settings, before.landed, producer)
        kill(victim)
        killed_at = time.monotonic()
        output, _ = producer.communicate(timeout=300)
        if producer.returncode != 0:
            raise RuntimeError(f"producing failed while {victim} was down: {output[-800:]}")
        after = wait_landed(settings, on_progress=on_progress)
    finally:
        if producer.poll() is None:
            producer.kill()
            producer.wait()
    return {
        "killed": victim,
        "lost": after.lost,
        "duplicated": after.duplicates,
        "produced": after.produced - before.produced,
        "recovered_seconds": round(time.monotonic() - killed_at, 1),
    }


def _wait_first_landed(
    settings: Settings, landed_before: int, producer: subprocess.Popen[str]
) -> None:
    deadline = time.monotonic() + 120
    while reconcile(settings).landed <= landed_before:
        failed = producer.poll()
        if failed or time.monotonic() > deadline:
            output = producer.communicate()[0] if failed else ""
            raise RuntimeError(f"no event of the load landed within 120 s; {output[-800:]}")
        time.sleep(0.1)
