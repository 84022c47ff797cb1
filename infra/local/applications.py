"""Services that serve people and programs: Superset, MLflow, the landing job, the API."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from herald.environments import env_bin, env_python
from herald.settings import ROOT, Settings
from infra.local.airflow import run_once
from infra.local.environment import add_path, child_environment
from infra.local.health import answers
from infra.local.postgres import url
from infra.local.service import Service

SUPERSET = ROOT / "superset"


def superset_environment(settings: Settings) -> dict[str, str]:
    """What every Superset process needs, on top of the inherited environment."""
    return {
        "SUPERSET_CONFIG_PATH": str(SUPERSET / "superset_config.py"),
        "SUPERSET_HOME": str(settings.state_dir.resolve() / "superset"),
        "PATH": add_path(env_bin("superset")),
    }


def superset(settings: Settings) -> Service:
    """Superset under gunicorn; its metadata is brought up to date before each start."""
    return Service(
        name="superset",
        argv=[
            str(env_bin("superset") / "gunicorn"),
            "-c",
            str(SUPERSET / "gunicorn_config.py"),
            "superset.app:create_app()",
        ],
        is_healthy=partial(answers, f"{settings.superset.url}/health", contains="OK"),
        address=settings.superset.url,
        needs=("postgres", "valkey"),
        ports={"HERALD_SUPERSET__PORT": settings.superset.port},
        environment=superset_environment(settings),
        prepare=partial(_prepare_superset, settings),
        start_seconds=600,
        stop_seconds=30,
    )


def _prepare_superset(settings: Settings) -> None:
    (settings.state_dir / "superset").mkdir(parents=True, exist_ok=True)
    run_once(
        [env_python("superset"), str(SUPERSET / "init_superset.py")],
        {**child_environment(settings), **superset_environment(settings)},
        settings.state_dir / "log" / "superset-init.log",
    )


def mlflow(settings: Settings) -> Service:
    """MLflow's tracking server and registry, with its basic login, on PostgreSQL."""
    state = settings.state_dir.resolve()
    return Service(
        name="mlflow",
        argv=[
            str(Path(sys.executable).parent / "mlflow"),
            "server",
            "--app-name",
            "basic-auth",
            "--host",
            settings.mlflow.host,
            "--port",
            str(settings.mlflow.port),
            "--workers",
            "1",
        ],
        is_healthy=partial(answers, f"{settings.mlflow.url}/health"),
        address=settings.mlflow.url,
        needs=("postgres",),
        ports={"HERALD_MLFLOW__PORT": settings.mlflow.port},
        environment={
            # in the environment, not on the command line: everybody can read that one
            "MLFLOW_BACKEND_STORE_URI": url(settings.postgres, "mlflow", "postgresql+psycopg"),
            "MLFLOW_ARTIFACTS_DESTINATION": str(state / "mlflow"),
            "MLFLOW_AUTH_CONFIG_PATH": str(state / "run" / "mlflow_auth.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": settings.mlflow.user,
            "MLFLOW_AUTH_ADMIN_PASSWORD": settings.mlflow.password.get_secret_value(),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": settings.mlflow.password.get_secret_value(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # seven more processes at start, for jobs that nothing here submits
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PATH": add_path(Path(sys.executable).parent),
        },
        prepare=partial(_prepare_mlflow, settings),
        start_seconds=600,
    )


def _prepare_mlflow(settings: Settings) -> None:
    state = settings.state_dir.resolve()
    (state / "mlflow").mkdir(parents=True, exist_ok=True)
    path = state / "run" / "mlflow_auth.ini"
    content = "\n".join(
        [
            "[mlflow]",
            "default_permission = READ",
            f"database_uri = {url(settings.postgres, 'mlflow_auth', 'postgresql+psycopg')}",
            f"admin_username = {settings.mlflow.user}",
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
            "grant_default_workspace_access = false",
            "",
        ]
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)


def landing(settings: Settings) -> Service:
    """The landing job: Spark in local mode, one supervised stream."""
    heartbeat = settings.state_dir / "run" / "landing.heartbeat"
    return Service(
        name="landing",
        argv=[sys.executable, "-m", "spark_jobs.jobs.land_events"],
        is_healthy=partial(_is_fresh, heartbeat),
        marks=(heartbeat,),
        address=f"{settings.kafka.topics.events} -> raw.events",
        needs=("kafka", "warehouse"),
        environment={
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
        },
        start_seconds=600,
        stop_seconds=30,
    )


def patterns(settings: Settings) -> Service:
    """The pattern stream: a small Spark that judges the rules and tells of alerts."""
    heartbeat = settings.state_dir / "run" / "patterns.heartbeat"
    return Service(
        name="patterns",
        argv=[sys.executable, "-m", "spark_jobs.jobs.detect_patterns"],
        is_healthy=partial(_is_fresh, heartbeat),
        marks=(heartbeat,),
        address=f"{settings.kafka.topics.events} -> live.alerts",
        needs=("kafka", "warehouse"),
        environment={
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
        },
        start_seconds=600,
        stop_seconds=30,
    )


def _is_fresh(heartbeat: Path, seconds: float = 15.0) -> bool:
    try:
        return time.time() - heartbeat.stat().st_mtime < seconds
    except FileNotFoundError:
        return False


def api(settings: Settings) -> Service:
    """Herald's own HTTP service."""
    return Service(
        name="api",
        argv=[sys.executable, "-m", "api"],
        is_healthy=partial(answers, f"{settings.api.url}/health"),
        address=settings.api.url,
        needs=("warehouse", "valkey"),
        ports={"HERALD_API__PORT": settings.api.port},
        reloads=settings.api.workers == 1,  # more workers sit behind a parent that ignores it
        start_seconds=600,
    )
