"""Strikes at the at-least-once sink with the same proxy and counts its duplicates."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from herald.chaos.at_least_once import DDL, TABLE
from herald.chaos.proxy import Fault, FaultProxy, Moment, Outcome
from herald.chaos.rig import ChaosError, Rig
from herald.settings import ROOT

STRIKE_SECONDS = 60.0
STRIKES: tuple[tuple[Moment, Outcome, bool], ...] = (
    # (moment, what the sink hears, whether it is killed)
    ("after", "drop", False),
    ("after", "error", False),
    ("after", "drop", True),
    ("before", "drop", True),
)


def control_duplicates(rig: Rig) -> int:
    """Rows too many in the control's table after an answer lost, a false error and two kills.

    Raises:
        ChaosError: it did not land at all, or even lost rows: then it is no fair comparison.
    """
    for sql in DDL:
        rig.client().command(sql)
    with FaultProxy(*rig.proxy.target) as proxy:
        job = _start(rig, proxy.port)
        try:
            for moment, outcome, is_killed in STRIKES:
                fault = Fault(TABLE, moment, _killer(job) if is_killed else _nothing, outcome)
                proxy.arm(fault)
                if not fault.fired.wait(STRIKE_SECONDS):
                    raise ChaosError("the control sink made no insert to strike at")
                proxy.disarm()
                if is_killed:
                    job.wait(20)
                    job = _start(rig, proxy.port)
            return _count(rig)
        finally:
            job.terminate()
            job.wait(20)


def _start(rig: Rig, port: int) -> subprocess.Popen[bytes]:
    warehouse = rig.settings.warehouse
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "herald.chaos.at_least_once",
            rig.settings.kafka.servers,
            rig.topic,
            str(port),
        ],
        env={
            **os.environ,
            "HERALD_WAREHOUSE__USER": warehouse.user,
            "HERALD_WAREHOUSE__PASSWORD": warehouse.password.get_secret_value(),
        },
        cwd=ROOT,
    )


def _nothing(_port: int) -> bool:
    return True


def _killer(job: subprocess.Popen[bytes]) -> Callable[[int], bool]:
    def kill(_port: int) -> bool:
        job.kill()
        return True

    return kill


def _count(rig: Rig) -> int:
    """Wait until every offset of now is there, then count what is there twice."""
    ends = rig.end_offsets()
    behind = " OR ".join(f"(`partition` = {p} AND offset < {end})" for p, end in ends.items())
    sql = f"SELECT count(), uniqExact(`partition`, offset) FROM {TABLE} WHERE {behind or 'false'}"
    deadline = time.monotonic() + 120
    while True:
        rows, distinct = rig.client().query(sql).result_rows[0]
        if int(distinct) == sum(ends.values()):
            return int(rows) - int(distinct)
        if time.monotonic() > deadline:
            raise ChaosError(f"the control sink has {distinct} of {sum(ends.values())} events")
        time.sleep(0.2)
