"""The interpreters of the four virtual environments, made at set-up under `var/envs`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from herald.settings import ROOT

EnvironmentName = Literal["app", "airflow", "warehouse", "superset"]


def env_bin(name: EnvironmentName) -> Path:
    """Folder of an environment's programs. Set-up output: in the checkout whatever state_dir is."""
    return ROOT / "var" / "envs" / name / "bin"


def env_python(name: EnvironmentName) -> str:
    """Path of an environment's interpreter."""
    return str(env_bin(name) / "python")
