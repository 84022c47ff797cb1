"""The one settings object. Built in `main`, handed down, never read at import.

Sources, strongest first: arguments, environment (`HERALD_KAFKA__PORT=9192`), `.env`, the
generated secrets of embedded mode (`<state_dir>/secrets.env`), `infra/config/<env>.yaml`, defaults.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

ROOT = Path(__file__).resolve().parent.parent
"""The checkout, where `infra/`, `dbt_project/` and the rest live."""

Port = int


class Section(BaseModel):
    """A group of settings; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class Topics(Section):
    """Names of the Kafka topics; their shape is in `infra/kafka/topics.yaml`."""

    events: str = "notifications.events.v1"
    dead_letters: str = "notifications.dead_letters.v1"
    alerts: str = "notifications.alerts.v1"
    campaigns: str = "notifications.campaigns.v1"
    templates: str = "notifications.templates.v1"
    journeys: str = "notifications.journeys.v1"
    users: str = "notifications.users.v1"


class Kafka(Section):
    """Broker. With `embedded`, Herald runs one itself on host and port."""

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Port = 9192
    controller_port: Port = 9193
    bootstrap_servers: str = Field("", description="Of a broker that is not embedded.")
    topics: Topics = Topics()

    @property
    def servers(self) -> str:
        """Bootstrap servers to connect to."""
        return self.bootstrap_servers or f"{self.host}:{self.port}"


class Warehouse(Section):
    """ClickHouse, or what speaks its HTTP protocol.

    engine `chdb` runs the embedded server, `clickhouse` a `clickhouse` binary of the PATH,
    `remote` connects to a server that runs already.
    """

    engine: Literal["chdb", "clickhouse", "remote"] = "chdb"
    host: str = "127.0.0.1"
    port: Port = 8193
    secure: bool = False
    user: str = "herald"
    password: SecretStr = SecretStr("")
    reader_user: str = "herald_reader"
    reader_password: SecretStr = SecretStr("")
    max_concurrent_queries: int = Field(8, ge=1, le=1_000)
    max_queued_queries: int = Field(500, ge=0)
    queue_timeout_seconds: float = Field(30.0, gt=0)
    max_execution_seconds: int = Field(300, ge=1)
    max_memory_bytes: int = Field(6 * 1024**3, ge=256 * 1024**2)


class Postgres(Section):
    """Metadata of Airflow, Superset and MLflow."""

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Port = 5493
    user: str = "herald"
    password: SecretStr = SecretStr("")


class Valkey(Section):
    """Redis protocol: caches."""

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Port = 6393
    password: SecretStr = SecretStr("")


class Lake(Section):
    """Iceberg tables in S3. With `embedded`, Herald runs the S3 server (SeaweedFS) itself.

    The catalog is a database of `postgres`, unless `catalog_uri` names another: a SQLAlchemy
    address (`sqlite:////data/lake.db`) or an Iceberg REST catalog (`https://catalog.example`).
    """

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Port = 8693
    internal_ports: list[Port] = Field(
        [8694, 8695, 8696, 8697, 8698, 8699, 8700],
        min_length=7,
        max_length=7,
        description="Of the embedded server: master, volume, filer and their gRPC, S3's gRPC.",
    )
    endpoint: str = Field("", description="Of an S3 server that is not embedded, with scheme.")
    region: str = "us-east-1"
    bucket: str = "herald-lake"
    access_key: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")
    catalog_uri: SecretStr = SecretStr("")
    sync_rows: int = Field(500_000, ge=1_000, description="Rows of a commit, about: its memory.")

    @property
    def url(self) -> str:
        """Address of the S3 server."""
        return self.endpoint or f"http://{self.host}:{self.port}"


class Login(Section):
    """A service with a page and an administrator."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port
    user: str = "admin"
    password: SecretStr = SecretStr("")

    @property
    def url(self) -> str:
        """Address of the service."""
        return f"http://{self.host}:{self.port}"


class Airflow(Login):
    """Scheduler, API server, DAG processor and triggerer."""

    port: Port = 8293
    parallelism: int = Field(2, ge=1)
    marts_interval_seconds: int = Field(
        900, ge=1, description="Landed events start a build of the marts at most this often."
    )
    jwt_secret: SecretStr = SecretStr("")
    fernet_key: SecretStr = SecretStr("")


class Superset(Login):
    """Dashboards."""

    port: Port = 8393
    secret_key: SecretStr = SecretStr("")
    workers: int = Field(2, ge=1)


class Mlflow(Login):
    """Model tracking and registry."""

    port: Port = 8493


class Api(Login):
    """Herald's own HTTP service. `password` is the bearer token of its administrator."""

    port: Port = 8593
    workers: int = Field(1, ge=1)


class Landing(Section):
    """The landing job. Changes take effect at its next start."""

    master: str = Field("local[2,4]", description="Of Spark; local[cores, tries of a task].")
    driver_memory: str = "2g"
    trigger_seconds: float = Field(0.5, ge=0, description="Shortest time between two batches.")
    max_offsets_per_trigger: int = Field(2_400_000, ge=1_000)
    min_offsets_per_trigger: int = Field(
        50_000, ge=1_000, description="A batch shrinks to it while the warehouse is overloaded."
    )
    slow_insert_seconds: float = Field(
        5.0, gt=0, description="An insert that took longer makes the next batches smaller."
    )
    range_offsets: int = Field(
        100_000, ge=1_000, description="Ranges are cut at multiples of it, so a replay cuts alike."
    )
    max_event_bytes: int = Field(262_144, ge=1_024)
    future_tolerance_seconds: int = Field(3_600, ge=0)
    oldest_event: str = Field("2000-01-01T00:00:00Z", description="Older events are refused.")
    start_timeout_seconds: float = Field(
        60.0, gt=0, description="How long a broker or warehouse that is down at start is awaited."
    )


class Intake(Section):
    """Events over HTTP: `POST /v1/events`. Changes take effect at the API's next start."""

    max_body_bytes: int = Field(8 * 1024**2, ge=1_024, description="Of a request, as sent.")
    max_batch_bytes: int = Field(
        32 * 1024**2, ge=1_024, description="Of a request, once decompressed."
    )
    max_batch_events: int = Field(10_000, ge=1)
    dedupe_seconds: int = Field(
        3_600, ge=60, description="How long an event id is known: a retry within it counts once."
    )
    max_lag: int = Field(
        5_000_000, ge=1, description="Events produced but not landed above which 429 is answered."
    )
    deliver_seconds: float = Field(
        15.0, gt=0, description="How long the broker's acknowledgement is awaited."
    )


class Mail(Section):
    """SMTP server that alerts go out by, and to whom. Without a host none is sent."""

    host: str = ""
    port: Port = 587
    starttls: bool = True
    user: str = ""
    password: SecretStr = SecretStr("")
    sender: str = "herald@localhost"
    recipients: str = Field("", description="Comma-separated addresses.")


class Alerts(Section):
    """The pattern stream, its rules and who is told. A destination without an address is off."""

    enabled: bool = True
    master: str = "local[1]"
    driver_memory: str = "1g"
    trigger_seconds: float = Field(5.0, gt=0)
    settle_seconds: float = Field(
        15.0, ge=0, description="An instant is judged this long after it, when its events landed."
    )
    lookback_minutes: int = Field(60, ge=1, description="What the first start judges.")
    max_offsets_per_trigger: int = Field(300_000, ge=1_000)
    rules_dir: Path | None = Field(None, description="Default: the rules of the project.")
    group_seconds: float = Field(5.0, ge=0, description="Alerts told together in one message.")
    give_up_hours: float = Field(24.0, gt=0, description="After it an alert is told no more.")
    webhook_url: SecretStr = SecretStr("")
    webhook_secret: SecretStr = Field(SecretStr(""), description="Key of the signature.")
    slack_url: SecretStr = Field(SecretStr(""), description="Slack or what takes its format.")
    alertmanager_url: str = Field("", description="Address of Alertmanager, without /api.")
    runbook_url: str = Field("", description="Put before a runbook's path in messages.")
    mail: Mail = Mail()


class Live(Section):
    """The live page's side of the API. Changes take effect at its next start."""

    poll_seconds: float = Field(
        0.5, ge=0.1, description="A view is read at most this often, slower when a read is dear."
    )
    max_views: int = Field(64, ge=1, description="Different sets of filters at once.")
    max_clients: int = Field(2_000, ge=1)
    queue_messages: int = Field(
        8, ge=1, description="A client that is this many messages behind is dropped."
    )
    linger_seconds: float = Field(10.0, ge=0, description="A view nobody watches is kept so long.")
    connections: int = Field(4, ge=1, description="Reads of the warehouse at once.")
    session_hours: float = Field(12.0, gt=0, description="How long a sign-in lasts.")


class Engine(Section):
    """AnalyticsEngine. The API reads all of it again on SIGHUP, without a restart."""

    pool_size: int = Field(8, ge=1)
    query_timeout_seconds: int = Field(30, ge=1)
    max_rows: int = Field(100_000, ge=1)
    max_read_rows: int = Field(
        500_000_000, ge=1, description="A question that would read more is refused."
    )
    heavy_read_rows: int = Field(
        20_000_000, ge=1, description="Questions above it take half of the pool at most."
    )
    page_rows: int = Field(1_000, ge=1)
    cache_seconds: int = Field(60, ge=0)
    cache_entries: int = Field(1_000, ge=0)


class Retention(Section):
    """How long rows are kept, in days since they landed; 0 keeps them for ever."""

    events_days: int = Field(760, ge=0)
    dead_letters_days: int = Field(90, ge=0)
    query_log_days: int = Field(14, ge=0)
    quality_days: int = Field(400, ge=0)
    files_days: int = Field(30, ge=0, description="Task logs, quality pages and reports.")


class Settings(BaseSettings):
    """Everything that can be set. Unknown, missing or wrong values stop the start."""

    model_config = SettingsConfigDict(
        env_prefix="HERALD_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="forbid",
        validate_default=True,
        nested_model_default_partial_update=True,
    )

    environment: str = Field("local", description="Names `infra/config/<environment>.yaml`.")
    state_dir: Path = Field(ROOT / "var", description="Where the embedded runtime keeps state.")
    data_dir: Path | None = Field(None, description="Real data sets, for tests and demos.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    kafka: Kafka = Kafka()
    warehouse: Warehouse = Warehouse()
    postgres: Postgres = Postgres()
    valkey: Valkey = Valkey()
    lake: Lake = Lake()
    airflow: Airflow = Airflow()
    superset: Superset = Superset()
    mlflow: Mlflow = Mlflow()
    api: Api = Api()
    landing: Landing = Landing()
    intake: Intake = Intake()
    alerts: Alerts = Alerts()
    live: Live = Live()
    engine: Engine = Engine()
    retention: Retention = Retention()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put generated secrets and the environment's YAML file under the environment."""
        given: dict[str, Any] = getattr(init_settings, "init_kwargs", {})
        state = Path(given.get("state_dir") or os.environ.get("HERALD_STATE_DIR") or ROOT / "var")
        name = given.get("environment") or os.environ.get("HERALD_ENVIRONMENT") or "local"
        return (
            init_settings,
            env_settings,
            dotenv_settings,
            DotEnvSettingsSource(settings_cls, env_file=secrets_file(state)),
            YamlConfigSettingsSource(settings_cls, yaml_file=config_file(str(name))),
        )


class SettingsError(Exception):
    """Settings that cannot be used; the message names every wrong value."""


def config_file(environment: str) -> Path:
    """The YAML file of one environment."""
    return ROOT / "infra" / "config" / f"{environment}.yaml"


def secrets_file(state_dir: Path) -> Path:
    """Where embedded mode keeps the secrets it generated, readable by its owner only."""
    return state_dir / "secrets.env"


def load_settings(**overrides: Any) -> Settings:
    """Build the settings, or raise SettingsError that names every wrong value at once."""
    environment = str(
        overrides.get("environment") or os.environ.get("HERALD_ENVIRONMENT") or "local"
    )
    if not config_file(environment).is_file():
        known = sorted(p.stem for p in config_file(environment).parent.glob("*.yaml"))
        raise SettingsError(
            f"HERALD_ENVIRONMENT={environment!r} has no file infra/config/{environment}.yaml; "
            f"known: {', '.join(known)}"
        )
    known_names = {f"HERALD_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(
        key
        for key in os.environ
        if key.startswith("HERALD_") and key.split("__")[0] not in known_names
    )
    problems = [f"{key}: no such setting" for key in unknown]
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        problems += [_problem(e) for e in error.errors()]
    else:
        if not problems:
            return settings
    raise SettingsError(
        "settings cannot be used:\n  "
        + "\n  ".join(problems)
        + "\nSee .env.example for every name, and infra/config/ for the files."
    )


def _problem(error: Any) -> str:
    path = "__".join(str(part).upper() for part in error["loc"])
    value = error.get("input")
    shown = "(hidden)" if "PASSWORD" in path or "SECRET" in path or "KEY" in path else repr(value)
    return f"HERALD_{path}={shown}: {error['msg']}"
