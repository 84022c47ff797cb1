"""The checkpoint folder of a stream: who may use it, and whether Spark will be able to read it.

The ledger in the warehouse has the truth (docs/decisions/0041), so a checkpoint is a convenience:
one that a power cut or a full disk has torn is set aside, and landing goes on from the ledger.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

KEPT = 3
"""Unreadable checkpoints kept for a look, the newest ones."""

SPARK_COMPLAINTS = (
    "Failed to read log file",
    "Incomplete log file",
    "CONCURRENT_STREAM_LOG_UPDATE",
    "MALFORMED_",
    "_LOG_FILE",
    "ChecksumException",
)
"""What Spark says of a checkpoint that it cannot use."""


class FolderLock:
    """Only one job of a machine uses a checkpoint; the next waits and is ready at once.

    The kernel lets the lock go when its process ends, however it ends. Jobs on other machines are
    kept apart by the plan in the warehouse instead (docs/decisions/0130).
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> bool:
        """Take it if nobody has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


def complaint(folder: Path) -> str:
    """Why Spark could not go on from this folder, '' when it can or when there is nothing yet."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return ""
    checks: list[tuple[Path, Callable[[Path], None]]] = [(folder / "metadata", _check_metadata)]
    offsets, commits = _numbered(folder / "offsets"), _numbered(folder / "commits")
    if commits and (not offsets or commits[-1] > offsets[-1]):
        return f"commits/{commits[-1]} has no file of offsets"
    if offsets and offsets[-1] > 0 and offsets[-1] - 1 not in offsets:
        return f"offsets/{offsets[-1] - 1} is missing"
    if offsets and offsets[-1] > 0 and (not commits or commits[-1] < offsets[-1] - 1):
        return f"commits/{offsets[-1] - 1} is missing"
    checks += [(folder / "offsets" / str(n), _check_log) for n in offsets[-2:]]
    checks += [(folder / "commits" / str(n), _check_log) for n in commits[-2:]]
    for path, check in checks:
        try:
            check(path)
        except (OSError, ValueError) as error:
            return f"{path.relative_to(folder)}: {error}"
    return ""


def set_aside(folder: Path) -> Path:
    """Move a checkpoint out of the way; only the newest few are kept. Returns its new place."""
    place = folder.with_name(f"{folder.name}.unreadable-{time.time_ns()}")
    folder.rename(place)
    older = sorted(folder.parent.glob(f"{folder.name}.unreadable-*"))[:-KEPT]
    for path in older:
        shutil.rmtree(path, ignore_errors=True)
    return place


def _numbered(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(f.name) for f in folder.iterdir() if f.name.isdigit())


def _check_metadata(path: Path) -> None:
    if "id" not in json.loads(path.read_text(encoding="utf-8")):
        raise ValueError("no id in it")


def _check_log(path: Path) -> None:
    """A version, then lines of JSON or `-`; for offsets the last line is what was planned."""
    version, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if not version.startswith("v") or not lines:
        raise ValueError("cut short")
    for line in lines:
        if line and line != "-":
            json.loads(line)
    if path.parent.name == "offsets" and len(lines) < 2:
        raise ValueError("cut short")
