"""CPU time by process, children included: on a busy machine it is steadier than the wall's."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

from infra.local.platform import Platform


def cpu_seconds(pid: int) -> float:
    """CPU time (user and system, s) of a process, its ended children, and all that it runs now.

    0 for a process that is gone.
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for process in family:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


class Meter:
    """CPU of some processes from its making on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._start = self._read()

    @classmethod
    def of(cls, platform: Platform, names: tuple[str, ...], **others: int) -> Meter:
        """Meter of services of a platform, and of other processes by their ids."""
        pids = {name: int(platform.supervisor.info(name).get("pid") or 0) for name in names}
        return cls({name: pid for name, pid in {**pids, **others}.items() if pid})

    def used(self) -> dict[str, float]:
        """CPU seconds by name since the start; of a process that ended, 0."""
        return {
            name: max(0.0, seconds - self._start[name]) for name, seconds in self._read().items()
        }

    def _read(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}
