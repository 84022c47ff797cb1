"""Airflow 3 as four processes: configuration by environment variables only."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psycopg

from herald.environments import env_bin
from herald.settings import ROOT, Settings
from infra.local.environment import add_path, child_environment
from infra.local.postgres import connect, url
from infra.local.service import PlatformError

DAGS = ROOT / "dags"
HEARTBEAT_SECONDS = 30  # each writes one every 5 s, later on busy cores
JOBS = {
    "airflow-scheduler": "SchedulerJob",
    "airflow-dag-processor": "DagProcessorJob",
    "airflow-triggerer": "TriggererJob",
}


def home(settings: Settings) -> Path:
    """AIRFLOW_HOME: logs and generated files."""
    return settings.state_dir.resolve() / "airflow"


def environment(settings: Settings) -> dict[str, str]:
    """What every Airflow process and command line needs, on top of the inherited environment."""
    airflow = settings.airflow
    bundle = {
        "name": "herald",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS), "refresh_interval": 5},
    }
    sections: dict[str, dict[str, object]] = {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": airflow.parallelism,
            "load_examples": False,
            "dags_folder": DAGS,
            "dags_are_paused_at_creation": False,
            "fernet_key": airflow.fernet_key.get_secret_value(),
            "execution_api_server_url": f"{airflow.url}/execution/",
            "auth_manager": (
                "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
            ),
            "simple_auth_manager_users": f"{airflow.user}:admin",
            "simple_auth_manager_passwords_file": home(settings) / "passwords.json",
        },
        "database": {
            "sql_alchemy_conn": url(settings.postgres, "airflow", "postgresql+psycopg2"),
            # two cores: few processes, few connections
            "sql_alchemy_pool_size": 5,
        },
        "api": {
            "host": airflow.host,
            "port": airflow.port,
            "base_url": airflow.url,
            "workers": 1,
            "secret_key": airflow.jwt_secret.get_secret_value(),
        },
        "api_auth": {"jwt_secret": airflow.jwt_secret.get_secret_value()},
        "dag_processor": {
            "parsing_processes": 1,
            "min_file_process_interval": 30,
            "dag_bundle_config_list": json.dumps([bundle]),
        },
        "logging": {"base_log_folder": home(settings) / "logs"},
        "usage_data_collection": {"enabled": False},
        "cosmos": {"enable_telemetry": False},
    }
    variables = {
        f"AIRFLOW__{section}__{name}".upper(): str(value)
        for section, values in sections.items()
        for name, value in values.items()
    }
    return {
        **variables,
        "AIRFLOW_HOME": str(home(settings)),
        "DO_NOT_TRACK": "1",
        "PATH": add_path(env_bin("airflow")),  # Airflow calls `airflow` by name
    }


def command(*arguments: str) -> list[str]:
    """The `airflow` command line of its environment."""
    return [str(env_bin("airflow") / "airflow"), *arguments]


def prepare(settings: Settings) -> None:
    """Write the login and bring the metadata's schema up to date.

    Raises:
        PlatformError: the migration failed, with the end of its output.
    """
    folder = home(settings)
    folder.mkdir(parents=True, exist_ok=True)
    passwords = folder / "passwords.json"
    draft = passwords.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({settings.airflow.user: settings.airflow.password.get_secret_value()}, file)
    draft.replace(passwords)
    run_once(
        command("db", "migrate"),
        {**child_environment(settings), **environment(settings)},
        settings.state_dir / "log" / "airflow-migrate.log",
    )


def is_healthy(settings: Settings, job: str) -> bool:
    """Whether the process of that kind wrote its heartbeat lately; asked of the metadata."""
    query = (
        "SELECT 1 FROM job WHERE job_type = %s AND state = 'running' "
        "AND latest_heartbeat > now() - make_interval(secs => %s) LIMIT 1"
    )
    try:
        with connect(settings.postgres, "airflow") as connection:
            return connection.execute(query, (job, HEARTBEAT_SECONDS)).fetchone() is not None
    except psycopg.Error:
        return False


def run_once(argv: list[str], environment: dict[str, str], log: Path) -> None:
    """Run one command of the start-up, its output in a log file.

    Raises:
        PlatformError: it failed, with the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        code = subprocess.run(
            argv,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            check=False,
        ).returncode
    if code:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        words = " ".join([Path(argv[0]).name, *argv[1:3]])
        raise PlatformError(f"{words} ended with {code}. The end of {log}:\n{end}")
