"""How settings reach the processes of the platform: as environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from herald.settings import Settings


def leaves(model: BaseModel, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every setting by its environment name, as text the settings would read back."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        path = (*prefix, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, path)
        elif value is not None:
            yield "HERALD_" + "__".join(path).upper(), _text(value)


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str | int | float | Path) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, default=str)


def child_environment(settings: Settings) -> dict[str, str]:
    """What a process needs to load these very settings.

    Only what differs from what it would read by itself is passed on, so that files stay in
    charge of the rest: a value in the environment could never be changed by a reload.
    """
    inherited = {key: value for key, value in os.environ.items() if key.startswith("HERALD_")}
    base = {
        "HERALD_ENVIRONMENT": settings.environment,
        "HERALD_STATE_DIR": str(settings.state_dir.resolve()),
    }
    read = Settings(environment=settings.environment, state_dir=settings.state_dir)
    there = dict(leaves(read))
    changed = {name: value for name, value in leaves(settings) if there.get(name) != value}
    return {**inherited, **changed, **base}


def add_path(first: Path, environment: Mapping[str, str] = os.environ) -> str:
    """PATH with one folder in front."""
    return f"{first}{os.pathsep}{environment.get('PATH', os.defpath)}"
