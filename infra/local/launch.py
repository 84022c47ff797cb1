"""Becomes one supervised process: `python launch.py <spec.json>`.

Between the supervisor and each program, because the supervisor's own configuration can neither
hold secrets safely nor quote every value, and because a program must not outlive a supervisor
that was killed. Standard library only, so it costs 20 ms.

The spec: `argv`, `environment` (added; every inherited HERALD_* is dropped first), `directory`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
MARK = "PLATFORM_STATE_DIR"
"""Environment variable that tells every process of a platform, children included."""


def die_with_parent(sign: int = signal.SIGTERM) -> None:
    """Ask the kernel to signal this process when its parent ends (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sign)


def main() -> None:
    """Read the spec and replace this process by the program."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HERALD_")}
    environment |= spec["environment"]
    environment["SPT_NOENV"] = "1"  # setproctitle must leave alone the environment with the mark
    os.chdir(spec["directory"])
    os.umask(0o077)
    die_with_parent()
    argv = spec["argv"]
    os.execvpe(argv[0], argv, environment)  # the exit code and the signals are the program's own


if __name__ == "__main__":
    main()
