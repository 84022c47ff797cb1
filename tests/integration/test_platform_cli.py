"""`herald up | status | logs | restart | down | doctor` as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from herald.settings import ROOT, load_settings
from infra.local.environment import child_environment
from infra.local.ports import free_ports

SERVICE = "valkey"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    own = load_settings(
        environment="test",
        state_dir=tmp_path_factory.mktemp("cli"),
        valkey={"port": free_ports(1)[0]},
    )
    environment = {**os.environ, **child_environment(own)}
    yield environment
    herald(environment, "down")


def herald(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "herald.cli.main", *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def read(environment: dict[str, str], *words: str) -> Any:
    done = herald(environment, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_life_of_a_service_on_the_command_line(shell: dict[str, str]) -> None:
    (up,) = [one for one in read(shell, "up", SERVICE) if one["name"] == SERVICE]
    assert up["is_healthy"]
    (seen,) = [one for one in read(shell, "status") if one["name"] == SERVICE]
    assert seen["pid"] == up["pid"]
    assert "Logins: " in herald(shell, "status").stdout

    assert read(shell, "restart", SERVICE) == {"restarted": SERVICE}
    assert any(read(shell, "logs", SERVICE).values())
    assert "--- " in herald(shell, "logs", SERVICE, "-n", "3").stdout
    assert read(shell, "reload") == {"reloaded": []}
    findings = {one["name"]: one for one in json.loads(herald(shell, "doctor", "--json").stdout)}
    assert findings[SERVICE]["found"] == "running, healthy"
    assert findings["jars of kafka"]["is_ok"]

    assert read(shell, "down") == {"stopped": True}
    (down,) = [one for one in read(shell, "status") if one["name"] == SERVICE]
    assert down["state"] == "stopped"


def test_one_message_when_a_service_is_unknown(shell: dict[str, str]) -> None:
    done = herald(shell, "up", "spaceship")
    assert done.returncode == 1
    assert "no service 'spaceship'" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_message_names_every_wrong_value_when_settings_are_bad(shell: dict[str, str]) -> None:
    bad = {**shell, "HERALD_KAFKA__PORT": "many", "HERALD_SPACESHIP": "1"}
    for command in ("up", "status", "down"):
        done = herald(bad, command)
        assert done.returncode == 2
        assert "HERALD_KAFKA__PORT='many'" in done.stderr
        assert "HERALD_SPACESHIP: no such setting" in done.stderr
        assert "Traceback" not in done.stderr
    doctor = herald(bad, "doctor")
    assert doctor.returncode == 1
    assert "HERALD_KAFKA__PORT" in doctor.stdout


def test_message_says_how_to_start_when_the_platform_is_down(shell: dict[str, str]) -> None:
    herald(shell, "down")
    done = herald(shell, "restart", SERVICE)
    assert done.returncode == 1
    assert "herald up" in done.stderr


def test_doctor_says_what_to_mend_when_secrets_are_open(
    shell: dict[str, str], tmp_path: Path
) -> None:
    own = {**shell, "HERALD_STATE_DIR": str(tmp_path)}
    (tmp_path / "secrets.env").write_text("")
    (tmp_path / "secrets.env").chmod(0o644)
    done = herald(own, "doctor", "--json")
    (secrets,) = [one for one in json.loads(done.stdout) if one["name"] == "secrets"]
    assert not secrets["is_ok"]
    assert secrets["remedy"].startswith("chmod 600")
    assert done.returncode == 1


def test_setup_is_quick_when_nothing_changed(shell: dict[str, str]) -> None:
    assert read(shell, "setup", "--only", "app") == {"ready": True}
