"""Runs dbt in the warehouse environment, told everything it needs through environment variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from herald.settings import ROOT, Settings

PROJECT = ROOT / "dbt_project"
"""Where the models are."""

DBT = ROOT / "var" / "envs" / "warehouse" / "bin" / "dbt"
"""The dbt of the warehouse environment."""


class DbtMissingError(Exception):
    """The warehouse environment is not installed; the message says how to install it."""


def target_dir(settings: Settings) -> Path:
    """Where dbt leaves manifest, run results and compiled SQL."""
    return settings.state_dir / "dbt" / "target"


def dbt_environment(settings: Settings) -> dict[str, str]:
    """Environment variables that point dbt at the project, the warehouse and the state folder.

    Holds the warehouse's password: hand it to a process, never print it.
    """
    warehouse = settings.warehouse
    return {
        "HERALD_WAREHOUSE__HOST": warehouse.host,
        "HERALD_WAREHOUSE__PORT": str(warehouse.port),
        "HERALD_WAREHOUSE__USER": warehouse.user,
        "HERALD_WAREHOUSE__PASSWORD": warehouse.password.get_secret_value(),
        "HERALD_WAREHOUSE__SECURE": str(warehouse.secure).lower(),
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_TARGET_PATH": str(target_dir(settings)),
        "DBT_LOG_PATH": str(settings.state_dir / "dbt" / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_USE_COLORS": "false",
        "DO_NOT_TRACK": "1",
    }


def run_dbt(
    settings: Settings, args: Sequence[str], *, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `dbt <args>` against the warehouse of the settings.

    Args:
        settings: names the warehouse and the state folder.
        args: dbt's own arguments, `["build", "--select", "tag:hourly"]`.
        capture: keep dbt's output in the result instead of showing it.

    Returns:
        The finished process; `returncode` 0 is success, 1 a failed node, 2 wrong usage.

    Raises:
        DbtMissingError: dbt is not installed.
    """
    if not DBT.is_file():
        raise DbtMissingError(f"no dbt at {DBT.relative_to(ROOT)}: run `make setup`")
    return subprocess.run(
        [str(DBT), *args],
        env={**os.environ, **dbt_environment(settings)},
        cwd=PROJECT,
        text=True,
        capture_output=capture,
        check=False,
    )
