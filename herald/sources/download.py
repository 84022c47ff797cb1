"""Fetches a source archive from the package index by pip, without installing it.

pip runs the archive's build backend for its metadata before it keeps the file; it has no way to
only download. See docs/decisions/0032-fetch-data-archives-with-pip.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from herald.settings import ROOT
from herald.sources.errors import SourceError

TIMEOUT_SECONDS = 300


def archive_name(requirement: str) -> str:
    """File name of the archive of `name==version`."""
    name, _, version = requirement.partition("==")
    return f"{name}-{version}.tar.gz"


def fetch_archive(folder: Path, requirement: str) -> Path:
    """Path of the archive of `name==version` in `folder`, downloaded when it is not there."""
    path = folder / archive_name(requirement)
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        done = subprocess.run(
            [
                *_pip(), "download", "--no-deps", "--no-binary", ":all:",
                "--ignore-requires-python", "--disable-pip-version-check", "--quiet",
                "--progress-bar", "off", "--dest", scratch, requirement,
            ],
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        found = Path(scratch) / path.name
        if done.returncode or not found.is_file():
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise SourceError(
                f"{requirement} could not be downloaded: {last[0]}; "
                f"put its source archive at {path} to go on without the index"
            )
        found.replace(path)
    return path


def _pip() -> list[str]:
    """Command line of some pip: the tools environment's, this interpreter's, or the system's."""
    pythons = [str(ROOT / "var" / "tools" / "bin" / "python"), sys.executable]
    pythons += [p for name in ("python3", "python") if (p := shutil.which(name))]
    for python in pythons:
        if Path(python).exists():
            probe = [python, "-m", "pip", "--version"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return probe[:-1]
    raise SourceError("no pip found to download with; run `make setup`, or install pip for python3")
