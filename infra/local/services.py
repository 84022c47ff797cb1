"""The services of the platform, from the settings. Order is the order of `herald status`."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from herald.settings import ROOT, Settings
from infra.local import airflow, applications, kafka, lake, postgres, valkey, warehouse
from infra.local.health import answers
from infra.local.service import Service, Steps


def build_services(settings: Settings) -> dict[str, Service]:
    """Every service that these settings run here, by name."""
    steps = Steps(settings.state_dir / "run" / "steps")
    services: list[Service] = []
    services += _stores(settings)
    if settings.lake.embedded:
        services.append(lake.service(settings))
    services.append(applications.landing(settings))
    if settings.alerts.enabled:
        services.append(applications.patterns(settings))
    services += _airflow(settings, steps)
    if settings.superset.enabled:
        services.append(applications.superset(settings))
    if settings.mlflow.enabled:
        services.append(applications.mlflow(settings))
    if settings.api.enabled:
        services.append(applications.api(settings))
    known = {service.name for service in services}
    return {service.name: _with_needs(service, known) for service in services}


def _with_needs(service: Service, known: set[str]) -> Service:
    """What runs elsewhere (a broker that is not embedded) is nothing to wait for."""
    needs = tuple(name for name in service.needs if name in known)
    return Service(**{**service.__dict__, "needs": needs})


def _stores(settings: Settings) -> list[Service]:
    found = []
    logs = settings.state_dir / "log"
    if settings.kafka.embedded:
        broker = settings.kafka
        found.append(
            Service(
                name="kafka",
                argv=kafka.command(settings),
                is_healthy=partial(kafka.is_healthy, settings),
                address=f"{broker.host}:{broker.port}",
                ports={
                    "HERALD_KAFKA__PORT": broker.port,
                    "HERALD_KAFKA__CONTROLLER_PORT": broker.controller_port,
                },
                prepare=partial(kafka.prepare, settings),
                finish=partial(_apply_topics, settings),
                logs=(logs / "kafka-server.log",),
            )
        )
    if settings.postgres.embedded:
        found.append(
            Service(
                name="postgres",
                argv=postgres.command(settings),
                is_healthy=partial(postgres.is_healthy, settings),
                address=f"{settings.postgres.host}:{settings.postgres.port}",
                ports={"HERALD_POSTGRES__PORT": settings.postgres.port},
                prepare=partial(postgres.prepare, settings),
                finish=partial(postgres.finish, settings),
                stop_signal="INT",  # fast shutdown: TERM would wait for every client
            )
        )
    if settings.valkey.embedded:
        found.append(
            Service(
                name="valkey",
                argv=valkey.command(settings),
                is_healthy=partial(valkey.is_healthy, settings),
                address=f"{settings.valkey.host}:{settings.valkey.port}",
                ports={"HERALD_VALKEY__PORT": settings.valkey.port},
                prepare=partial(valkey.prepare, settings),
            )
        )
    if settings.warehouse.engine != "remote":
        found.append(
            Service(
                name="warehouse",
                argv=warehouse.command(settings),
                is_healthy=partial(warehouse.is_healthy, settings),
                address=f"http://{settings.warehouse.host}:{settings.warehouse.port}",
                ports={"HERALD_WAREHOUSE__PORT": settings.warehouse.port},
                prepare=partial(warehouse.prepare, settings),
                finish=partial(warehouse.finish, settings),
                stop_seconds=60,
            )
        )
    return found


def _apply_topics(settings: Settings) -> None:
    kafka.apply_topics(settings.kafka)


def _airflow(settings: Settings, steps: Steps) -> list[Service]:
    if not settings.airflow.enabled:
        return []
    variables = airflow.environment(settings)
    password = settings.airflow.password.get_secret_value()
    lock = fingerprint(ROOT / "infra" / "requirements" / "airflow.txt")
    stamp = hashlib.sha256(f"{lock}{settings.airflow.user}{password}".encode()).hexdigest()
    prepare = partial(steps.once, "airflow", stamp, partial(airflow.prepare, settings))

    services = [
        Service(
            name="airflow-api",
            argv=airflow.command("api-server"),
            is_healthy=partial(answers, f"{settings.airflow.url}/api/v2/monitor/health"),
            address=settings.airflow.url,
            needs=("postgres",),
            ports={"HERALD_AIRFLOW__PORT": settings.airflow.port},
            environment=variables,
            prepare=prepare,
            start_seconds=600,
        )
    ]
    # the API reads their log files itself: no log servers, whose ports are fixed
    arguments = {
        "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
        "airflow-dag-processor": ["dag-processor"],
        "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
    }
    services += [
        Service(
            name=name,
            argv=airflow.command(*words),
            is_healthy=partial(airflow.is_healthy, settings, airflow.JOBS[name]),
            address=settings.airflow.url,
            needs=("postgres",),
            environment=variables,
            prepare=prepare,
            start_seconds=600,
            stop_seconds=15,  # a running task would hold the scheduler; it is retried
        )
        for name, words in arguments.items()
    ]
    return services


def fingerprint(*paths: Path) -> str:
    """Hash of the content of files, as the stamp of a one-off step."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()
