"""What a service of the platform is: a command, what it needs, and when it is healthy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Progress = Callable[[str], None]
"""Takes one line about what happens now."""


class PlatformError(Exception):
    """A service that cannot start or stay up; the message says which, why, and what to do."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Service:
    """One supervised process.

    Attributes:
        name: as in `herald status`.
        argv: command line; the program must stay in the foreground.
        is_healthy: True once it serves; called every quarter of a second, never raises.
        address: where people or programs find it.
        needs: services that must be healthy before `prepare` runs.
        ports: setting that names a port -> the port, to check before the start.
        environment: added to the environment of whoever starts the platform.
        prepare: one-off work before the start (formatting, schema migration), idempotent.
        finish: one-off work once healthy (topics, databases); others wait for it too.
        start_seconds: longest time to become healthy.
        stop_signal: the signal of a clean stop.
        stop_seconds: how long it may take before it is killed.
        reloads: whether SIGHUP makes it read its settings again.
        logs: its own log files besides what it prints.
        marks: files by which it says that it lives; removed when it is started or killed.
    """

    name: str
    argv: Sequence[str]
    is_healthy: Callable[[], bool]
    address: str
    needs: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], object] = _nothing
    finish: Callable[[], object] = _nothing
    start_seconds: float = 180
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    reloads: bool = False
    logs: tuple[Path, ...] = ()
    marks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ServiceStatus:
    """How one service is.

    Attributes:
        name: of the service.
        state: running, starting, stopped, stopping, backoff (ended at once, will be tried
            again), fatal (given up), unknown.
        is_healthy: whether it serves now.
        pid: process id, None when it does not run.
        uptime_seconds: since its process started.
        address: where it is found.
        log: file with what it prints.
    """

    name: str
    state: str
    is_healthy: bool
    pid: int | None
    uptime_seconds: float
    address: str
    log: str


class Steps:
    """One-off work, remembered in `<state_dir>/run/steps/` so that a second start is quick."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def once(self, name: str, stamp: str, work: Callable[[], Any]) -> bool:
        """Do the work unless it was done for the same stamp; False when it was.

        Callers of the same name wait for each other: four Airflow processes, one migration.
        """
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            mark = self._folder / name
            if mark.is_file() and mark.read_text() == stamp:
                return False
            work()
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(stamp)
            return True


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, '' when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
