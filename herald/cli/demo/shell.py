"""Other commands of this project, run as a person would run them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def herald_command(*arguments: str) -> list[str]:
    """Command line of one `herald` command in this environment."""
    return [sys.executable, "-m", "herald.cli.main", *arguments]


def run_herald(*arguments: str) -> dict[str, Any]:
    """Run one `herald` command with `--json`, its progress shown, and return what it printed.

    Raises:
        RuntimeError: it failed; its own message went to stderr.
    """
    done = subprocess.run(
        herald_command(*arguments, "--json"), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"`herald {' '.join(arguments)}` ended with {done.returncode}")
    printed = done.stdout.strip().splitlines()
    loaded: dict[str, Any] = json.loads(printed[-1]) if printed else {}
    return loaded
