"""Secrets of the embedded platform: generated once, kept for its owner only, reused."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from herald.settings import Settings, secrets_file


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


GENERATED: Mapping[tuple[str, str], Callable[[], str]] = {
    ("warehouse", "password"): lambda: secrets.token_hex(16),
    ("warehouse", "reader_password"): lambda: secrets.token_hex(16),
    ("postgres", "password"): lambda: secrets.token_hex(16),
    ("valkey", "password"): lambda: secrets.token_hex(16),
    ("lake", "access_key"): lambda: secrets.token_hex(10),
    ("lake", "secret_key"): lambda: secrets.token_hex(20),
    ("airflow", "password"): lambda: secrets.token_hex(12),
    ("airflow", "jwt_secret"): lambda: secrets.token_hex(32),
    ("airflow", "fernet_key"): _fernet_key,
    ("superset", "password"): lambda: secrets.token_hex(12),
    ("superset", "secret_key"): lambda: secrets.token_hex(32),
    ("mlflow", "password"): lambda: secrets.token_hex(12),
    ("api", "password"): lambda: secrets.token_hex(24),
}
"""(section, field) -> how it is made. Hexadecimal, so that it is safe in URLs and files."""


def env_name(section: str, field: str) -> str:
    """Name of a setting in the environment."""
    return f"HERALD_{section}__{field}".upper()


def read_secrets(state_dir: Path) -> dict[str, str]:
    """The generated secrets by environment name; empty before the first start."""
    path = secrets_file(state_dir)
    if not path.is_file():
        return {}
    lines = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in lines}


def ensure_secrets(state_dir: Path) -> dict[str, str]:
    """Generate what is missing in `<state_dir>/secrets.env` (mode 0600); return all of them."""
    known = read_secrets(state_dir)
    missing = {
        env_name(*path): make()
        for path, make in GENERATED.items()
        if not known.get(env_name(*path))
    }
    path = secrets_file(state_dir)
    if missing:
        known |= missing
        state_dir.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        # written aside with its final mode: never readable by others, never half there
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{name}={value}\n" for name, value in sorted(known.items()))
        draft.replace(path)
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return known


def with_secrets(settings: Settings) -> Settings:
    """The settings with every secret that is still empty taken from the generated ones."""
    known = ensure_secrets(settings.state_dir)
    for section, field in GENERATED:
        part = getattr(settings, section)
        if not getattr(part, field).get_secret_value():
            value = SecretStr(known[env_name(section, field)])
            settings = settings.model_copy(update={section: part.model_copy(update={field: value})})
    return settings
