"""A disk that is really full: a small filesystem in a file, mounted where the warehouse writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

SIZE_MIB = 4_096
FOLDERS = ("clickhouse", "landing")
"""Of the state folder: data of the warehouse, checkpoint of the landing."""


def why_not() -> str:
    """Why a filesystem cannot be mounted here, '' when it can be tried."""
    if os.geteuid() != 0:
        return "mounting a small filesystem needs root"
    missing = [name for name in ("mkfs.ext4", "mount", "umount") if not shutil.which(name)]
    return f"{', '.join(missing)} not found" if missing else ""


@contextlib.contextmanager
def small_disk(state_dir: Path, size_mib: int = SIZE_MIB) -> Iterator[Path | None]:
    """Mount it below the state folder and link the folders to it; None where that is refused."""
    place = state_dir / "disk"
    if why_not() or not _mount(state_dir / "disk.img", place, size_mib):
        yield None
        return
    try:
        for name in FOLDERS:
            (place / name).mkdir()
            (state_dir / name).symlink_to(place / name)
        yield place
    finally:
        # lazily: what still has a file open there keeps it until it ends
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def _mount(image: Path, place: Path, size_mib: int) -> bool:
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size_mib * 1024**2)
    commands = (
        ["mkfs.ext4", "-q", "-m", "0", str(image)],
        ["mount", "-o", "loop", str(image), str(place)],
    )
    return all(
        subprocess.run(command, check=False, capture_output=True).returncode == 0
        for command in commands
    )


@contextlib.contextmanager
def filled(place: Path) -> Iterator[None]:
    """Take every free byte, then give it back."""
    filler = place / "filler"
    try:
        with filler.open("wb") as file:
            free = os.statvfs(place)
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
            with contextlib.suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(65_536))
        yield
    finally:
        filler.unlink(missing_ok=True)
