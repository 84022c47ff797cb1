"""Secrets, configuration files and environments of the platform, without starting anything."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from herald.settings import ROOT, Settings, Topics, load_settings
from infra.local import airflow, kafka, launch, postgres, supervision, valkey
from infra.local.environment import child_environment
from infra.local.platform import Platform
from infra.local.secrets import GENERATED, ensure_secrets, env_name, read_secrets, with_secrets
from infra.local.service import PlatformError, Service, Steps, tail
from infra.local.services import build_services
from infra.local.supervision import Supervisor, socket_path


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return load_settings(environment="test", state_dir=tmp_path)


def test_secrets_are_for_the_owner_only_and_reused(tmp_path: Path) -> None:
    first = ensure_secrets(tmp_path)
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert set(first) == {env_name(*path) for path in GENERATED}
    assert len(set(first.values())) == len(first)
    assert ensure_secrets(tmp_path) == first == read_secrets(tmp_path)


def test_secrets_mode_is_mended_and_a_missing_one_is_added(tmp_path: Path) -> None:
    first = ensure_secrets(tmp_path)
    path = tmp_path / "secrets.env"
    path.chmod(0o644)
    ensure_secrets(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("".join(line for line in path.open() if "VALKEY" not in line))
    second = ensure_secrets(tmp_path)
    assert {k for k in first if first[k] != second[k]} == {"HERALD_VALKEY__PASSWORD"}


def test_secret_given_by_the_settings_wins(own: Settings) -> None:
    given = own.model_copy(
        update={"valkey": own.valkey.model_copy(update={"password": SecretStr("mine")})}
    )
    filled = with_secrets(given)
    assert filled.valkey.password.get_secret_value() == "mine"
    known = read_secrets(own.state_dir)["HERALD_POSTGRES__PASSWORD"]
    assert filled.postgres.password.get_secret_value() == known


def test_topics_file_agrees_with_the_settings() -> None:
    named = {key: topic.name for key, topic in kafka.read_topics().items()}
    assert named == Topics().model_dump()


def test_reference_topics_are_compacted_and_event_topics_are_not() -> None:
    compacted = {
        key
        for key, topic in kafka.read_topics().items()
        if topic.config.get("cleanup.policy") == "compact"
    }
    assert compacted == {"campaigns", "templates", "journeys", "users"}


def test_broker_listens_on_loopback_at_the_ports_of_the_settings(own: Settings) -> None:
    text = kafka.server_properties(own)
    assert f"listeners=PLAINTEXT://127.0.0.1:{own.kafka.port},CONTROLLER://127.0.0.1:" in text
    assert "auto.create.topics.enable=false" in text


def test_valkey_asks_for_the_password(own: Settings) -> None:
    filled = with_secrets(own)
    assert f"requirepass {filled.valkey.password.get_secret_value()}" in valkey.configuration(
        filled
    )


def test_postgres_drops_root_and_keeps_a_capability_only_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert postgres.unprivileged(["postgres"], tmp_path) == ["postgres"]
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/setpriv")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    words = postgres.unprivileged(["/usr/bin/postgres"], closed / "data")
    assert "--ambient-caps=+dac_override" in words
    assert "--ambient-caps=+dac_override" not in postgres.unprivileged(["/bin/x"], Path("/usr/x"))
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(PlatformError, match="setpriv"):
        postgres.unprivileged(["postgres"], tmp_path)


def test_airflow_variables_hold_the_login_file_and_no_telemetry(own: Settings) -> None:
    variables = airflow.environment(with_secrets(own))
    assert variables["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin"
    assert variables["AIRFLOW__COSMOS__ENABLE_TELEMETRY"] == "False"
    (bundle,) = json.loads(variables["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert bundle["kwargs"]["path"] == str(ROOT / "dags")


def test_supervisor_configuration_holds_no_secret_and_survives_percent(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "100%")
    service = Service("one", ["sleep", "1"], lambda: True, "nowhere")
    supervisor.write_config([service])
    parser = configparser.RawConfigParser()
    parser.read(supervisor.config)
    program = parser["program:one"]
    assert program["killasgroup"] == program["stopasgroup"] == program["autorestart"] == "true"
    assert "100%%" in program["command"]
    supervisor.write_spec(service, {"HERALD_POSTGRES__PASSWORD": "s3"}, ROOT)
    assert supervisor.spec("one").stat().st_mode & 0o777 == 0o600
    assert "s3" not in supervisor.config.read_text()


def test_spec_digest_changes_with_the_environment(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    service = Service("one", ["sleep", "1"], lambda: True, "nowhere")
    supervisor.write_config([service])
    first = supervisor.write_spec(service, {"A": "1"}, ROOT)
    assert supervisor.write_spec(service, {"A": "1"}, ROOT) == first
    assert supervisor.write_spec(service, {"A": "2"}, ROOT) != first


def test_socket_moves_to_a_short_path_when_the_folder_is_long(tmp_path: Path) -> None:
    short = tmp_path.parents[-2] / "run"
    assert socket_path(short) == short / "supervisor.sock"
    long = tmp_path / ("x" * supervision.SOCKET_PATH_LIMIT)
    assert len(str(socket_path(long))) <= supervision.SOCKET_PATH_LIMIT
    assert socket_path(long) == socket_path(long)


def test_child_loads_the_very_settings(tmp_path: Path) -> None:
    own = with_secrets(
        load_settings(
            environment="test",
            state_dir=tmp_path,
            kafka={"port": 4242, "topics": {"events": "mine"}},
            superset={"enabled": False},
        )
    )
    environment = child_environment(own)
    assert "HERALD_WAREHOUSE__PORT" not in environment  # as the child reads it anyway
    code = "from herald.settings import *; print(load_settings().model_dump_json())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(own.model_dump_json())


def test_launch_drops_inherited_settings_and_becomes_the_program(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    code = "import os; print(os.getcwd(), os.environ.get('HERALD_X'), os.environ['HERALD_Y'])"
    spec.write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-c", code],
                "environment": {"HERALD_Y": "kept"},
                "directory": str(tmp_path),
            }
        )
    )
    done = subprocess.run(
        [sys.executable, launch.__file__, str(spec)],
        env={**os.environ, "HERALD_X": "inherited"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path), "None", "kept"]


def test_every_agreed_service_is_there_and_needs_only_services(own: Settings) -> None:
    services = build_services(with_secrets(own))
    assert list(services) == [
        "kafka", "postgres", "valkey", "warehouse", "lake", "landing", "patterns",
        "airflow-api",
        "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "superset", "mlflow",
        "api",
    ]  # fmt: skip
    assert all(need in services for one in services.values() for need in one.needs)
    ports = [port for one in services.values() for port in one.ports.values()]
    assert len(ports) == len(set(ports))


def test_no_service_shows_a_secret_on_its_command_line(own: Settings) -> None:
    filled = with_secrets(own)
    secrets = read_secrets(own.state_dir).values()
    for service in build_services(filled).values():
        words = " ".join(service.argv)
        assert not any(secret in words for secret in secrets), service.name


def test_what_runs_elsewhere_is_no_service(tmp_path: Path) -> None:
    cluster = load_settings(environment="cluster", state_dir=tmp_path)
    services = build_services(with_secrets(cluster))
    assert not services.keys() & {"kafka", "postgres", "valkey", "warehouse"}
    assert services["landing"].needs == ()


def test_unknown_service_is_refused_with_the_known_ones(own: Settings) -> None:
    with pytest.raises(PlatformError, match=r"no service 'kafak'; there are: kafka, postgres"):
        Platform(own).closure(["kafak"])


def test_closure_holds_what_a_service_needs(own: Settings) -> None:
    names = [service.name for service in Platform(own).closure(["landing"])]
    assert names == ["kafka", "warehouse", "landing"]


def test_step_runs_once_per_stamp(tmp_path: Path) -> None:
    steps, runs = Steps(tmp_path), []
    assert steps.once("x", "1", lambda: runs.append(1))
    assert not steps.once("x", "1", lambda: runs.append(2))
    assert steps.once("x", "2", lambda: runs.append(3))
    assert runs == [1, 3]


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path) == ""
    path.write_text("".join(f"{number}\n" for number in range(100)))
    assert tail(path, 2) == "98\n99"
