"""Fixtures shared by every suite: one platform a session, started piece by piece as tests ask.

State lives in a temporary folder, ports are free ones, secrets are generated. The platform is
attached: it ends with pytest, even when pytest is killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from herald.settings import Settings, load_settings
from herald.warehouse.client import connect
from infra.local import valkey as valkey_service
from infra.local.environment import child_environment
from infra.local.platform import Platform
from infra.local.ports import free_ports
from infra.local.secrets import ensure_secrets

KEPT_VARIABLES = {"HERALD_DATA_DIR"}


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> None:
    """Settings of the shell must not decide what a test sees."""
    for name in [name for name in os.environ if name.startswith("HERALD_")]:
        if name not in KEPT_VARIABLES:
            del os.environ[name]


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a free loopback port at each call."""
    return lambda: free_ports(1)[0]


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def settings(state_dir: Path, _own_environment: None) -> Settings:
    """Test settings: free ports for every service, generated secrets."""
    ensure_secrets(state_dir)
    ports = iter(free_ports(17))
    return load_settings(
        environment="test",
        state_dir=state_dir,
        kafka={"port": next(ports), "controller_port": next(ports)},
        warehouse={"port": next(ports)},
        postgres={"port": next(ports)},
        valkey={"port": next(ports)},
        lake={"port": next(ports), "internal_ports": [next(ports) for _ in range(7)]},
        airflow={"port": next(ports)},
        superset={"port": next(ports)},
        mlflow={"port": next(ports)},
        api={"port": next(ports)},
    )


@pytest.fixture(scope="session")
def platform(settings: Settings) -> Iterator[Platform]:
    """The platform of this session; nothing runs until a test or a fixture asks `up([...])`."""
    platform = Platform(settings, attached=True)
    yield platform
    platform.down()


@pytest.fixture(scope="session")
def herald_environment(settings: Settings) -> dict[str, str]:
    """Environment for a process that shall load these settings."""
    return {**os.environ, **child_environment(settings)}


@pytest.fixture(scope="session")
def broker(platform: Platform) -> str:
    """Bootstrap servers of a running Kafka with every topic."""
    platform.up(["kafka"])
    return platform.settings.kafka.servers


@pytest.fixture(scope="session")
def valkey(platform: Platform) -> str:
    """URL of a running Valkey."""
    platform.up(["valkey"])
    return valkey_service.url(platform.settings.valkey)


@pytest.fixture(scope="session")
def lake(platform: Platform) -> Settings:
    """Settings of a running lake: S3 server and catalog."""
    platform.up(["lake"])
    return platform.settings


@pytest.fixture(scope="session")
def warehouse(platform: Platform) -> Iterator[Client]:
    """A writer's client of a running warehouse with the migrations applied."""
    platform.up(["warehouse"])
    client = connect(platform.settings.warehouse)
    yield client
    client.close()


@pytest.fixture(scope="session")
def warehouse_reader(warehouse: Client, settings: Settings) -> Iterator[Client]:
    """A reader's client of the same."""
    client = connect(settings.warehouse, "reader")
    yield client
    client.close()
