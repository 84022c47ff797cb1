"""The JSON records that long commands leave under the state folder, and how to read them back.

Field names are fixed: fields may be added, never renamed. A field whose work did not happen is
absent, never zero.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from herald.settings import ROOT

RECORD_SCHEMA = 1


def now() -> datetime:
    """The present, UTC."""
    return datetime.now(UTC)


def write_record(path: Path, *, command: str, started_at: datetime, **payload: Any) -> Path:
    """Write one record, whole or not at all, and return its path.

    Args:
        path: where; its folder is made.
        command: what was run, as typed.
        started_at: when it started, UTC.
        payload: the command's own fields; values that are not JSON are written as text.
    """
    record = {
        "schema": RECORD_SCHEMA,
        "command": command,
        "started_at": started_at.isoformat(timespec="milliseconds"),
        "finished_at": now().isoformat(timespec="milliseconds"),
        "git_commit": git_commit(),
        "machine": machine(),
        **payload,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def read_record(path: Path) -> dict[str, Any]:
    """Read one record back; an absent file is an empty record."""
    if not path.is_file():
        return {}
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def machine() -> dict[str, Any]:
    """The machine a figure was measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "python": platform.python_version(),
        "java": _java_version(),
    }


def git_commit() -> str:
    """The commit checked out, with `-dirty` when files differ from it; empty outside a checkout."""
    head = _output(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    changed = _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return f"{head}-dirty" if head and changed else head


def _java_version() -> str:
    java = shutil.which("java")
    return _output([java, "--version"]).partition("\n")[0] if java else ""


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
