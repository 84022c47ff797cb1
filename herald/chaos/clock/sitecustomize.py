"""Shifts the clock of every Python process that has this folder on PYTHONPATH, JVM's aside.

The file named by CHAOS_CLOCK holds the shift in seconds and is read again all the time, so that the
clock jumps while a job runs. Python loads a module of this name by itself at its start.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_READ_AGAIN_SECONDS = 0.2
_real_ns, _monotonic = time.time_ns, time.monotonic
_state = {"shift": 0, "read": -1.0}


def _shift() -> int:
    """Nanoseconds to add now."""
    now = _monotonic()
    if now - _state["read"] > _READ_AGAIN_SECONDS:
        _state["read"] = now
        text = Path(os.environ["CHAOS_CLOCK"]).read_text(encoding="utf-8")
        _state["shift"] = int(float(text or 0) * 1_000_000_000)
    return int(_state["shift"])


def _time_ns() -> int:
    return _real_ns() + _shift()


def _time() -> float:
    return _time_ns() / 1_000_000_000


if os.environ.get("CHAOS_CLOCK"):
    time.time_ns = _time_ns
    time.time = _time
