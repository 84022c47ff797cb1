"""Deletes old files that runs leave: quality pages and results, reports, task logs."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from herald.settings import Settings

FOLDERS = (
    "data_docs/validations",
    "quality/validations",
    "reports",
    "airflow/logs",
)
"""Below the state folder; nothing else is ever touched."""


def prune_files(settings: Settings, *, now: datetime) -> dict[str, int]:
    """Delete files older than `retention.files_days`, then folders left empty.

    Args:
        settings: state folder and retention; 0 days keeps everything.
        now: files last changed before `now` - days go.

    Returns:
        Number of files deleted by folder.
    """
    days = settings.retention.files_days
    if days == 0:
        return dict.fromkeys(FOLDERS, 0)
    limit = (now - timedelta(days=days)).timestamp()
    return {name: _prune(settings.state_dir / name, limit) for name in FOLDERS}


def _prune(folder: Path, limit: float) -> int:
    # ages first: deleting a file makes its folder young
    ages = {path: path.lstat().st_mtime for path in folder.rglob("*")}
    old = [path for path, changed in ages.items() if changed < limit]
    deleted = 0
    for path in sorted(old, key=lambda p: len(p.parts), reverse=True):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            deleted += 1
        elif not any(path.iterdir()):
            path.rmdir()
    return deleted
