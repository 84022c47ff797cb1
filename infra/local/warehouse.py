"""The warehouse of the platform: our server over chDB, or a `clickhouse` binary."""

from __future__ import annotations

import sys

from clickhouse_connect.driver.client import Client

from herald.settings import Settings
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError
from herald.warehouse.migrations import MigrationError, migrate
from infra.local.health import answers
from infra.local.service import PlatformError


def command(settings: Settings) -> list[str]:
    """How the server is started."""
    return [sys.executable, "-m", "infra.local.clickhouse_server"]


def prepare(settings: Settings) -> None:
    """Make the data folder."""
    (settings.state_dir / "clickhouse").mkdir(parents=True, exist_ok=True)


def finish(settings: Settings) -> None:
    """Bring the schema up to date.

    Raises:
        PlatformError: a migration was refused, or the login.
    """
    try:
        client: Client = connect(settings.warehouse)
        try:
            migrate(client)
        finally:
            client.close()
    except (MigrationError, WarehouseDownError) as error:
        raise PlatformError(str(error)) from error


def is_healthy(settings: Settings) -> bool:
    """Whether it answers."""
    scheme = "https" if settings.warehouse.secure else "http"
    return answers(f"{scheme}://{settings.warehouse.host}:{settings.warehouse.port}/ping")
