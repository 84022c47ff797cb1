"""The landing job when what it needs is not there: a clear message and exit code 2."""

import json
import subprocess
import sys
from collections.abc import Callable

from herald.settings import ROOT


def start(environment: dict[str, str], **changes: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "spark_jobs.jobs.land_events"],
        env={**environment, "HERALD_LANDING__START_TIMEOUT_SECONDS": "1"} | changes,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


def last_reason(log: str) -> str:
    line = json.loads(log.splitlines()[-1])
    assert line["level"] == "ERROR"
    assert line["message"] == "cannot start"
    return str(line["reason"])


def test_start_names_the_broker_when_it_is_down(
    herald_environment: dict[str, str], free_port: Callable[[], int]
) -> None:
    port = free_port()

    code, log = start(
        herald_environment,
        HERALD_KAFKA__PORT=str(port),
        HERALD_LANDING__START_TIMEOUT_SECONDS="6",  # longer than one try
    )

    assert code == 2
    assert f"broker at 127.0.0.1:{port} does not answer" in last_reason(log)
    assert "waiting for the broker" in log


def test_start_names_the_warehouse_when_it_is_down(
    broker: str, herald_environment: dict[str, str], free_port: Callable[[], int]
) -> None:
    port = free_port()

    code, log = start(herald_environment, HERALD_WAREHOUSE__PORT=str(port))

    assert code == 2
    assert f"warehouse at 127.0.0.1:{port}" in last_reason(log)


def test_start_names_every_wrong_setting_when_settings_are_wrong(
    herald_environment: dict[str, str],
) -> None:
    code, log = start(herald_environment, HERALD_LANDING__RANGE_OFFSETS="7", HERALD_KAFKA__PORT="x")

    assert code == 2
    assert "HERALD_LANDING__RANGE_OFFSETS='7'" in log
    assert "HERALD_KAFKA__PORT='x'" in log
