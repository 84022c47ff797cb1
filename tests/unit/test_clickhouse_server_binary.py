"""Starting a `clickhouse` binary instead of the embedded engine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from herald.settings import ROOT, load_settings
from infra.local.clickhouse_server.binary import write_server_config


def _start(folder: Path, path: str, engine: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": path,
        "HERALD_ENVIRONMENT": "test",
        "HERALD_STATE_DIR": str(folder),
        "HERALD_WAREHOUSE__ENGINE": engine,
        "HERALD_WAREHOUSE__PORT": "18123",
    }
    return subprocess.run(
        [sys.executable, "-m", "infra.local.clickhouse_server"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_binary_takes_the_process_over_when_it_is_on_the_path(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "clickhouse"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "ran: $*"\nexit 7\n')
    program.chmod(0o755)
    done = _start(tmp_path, f"{program.parent}:/bin:/usr/bin", "clickhouse")
    config = tmp_path / "clickhouse" / "server" / "etc" / "config.xml"
    assert done.returncode == 7, done.stderr
    assert f"ran: server --config-file={config}" in done.stdout
    assert ET.parse(config).findtext("http_port") == "18123"


@pytest.mark.parametrize(
    ("engine", "status", "said"),
    [("clickhouse", 1, "no `clickhouse` on the PATH"), ("remote", 2, "run elsewhere")],
)
def test_start_is_refused_when_there_is_nothing_to_start(
    tmp_path: Path, engine: str, status: int, said: str
) -> None:
    done = _start(tmp_path, str(tmp_path), engine)
    assert (done.returncode, said in done.stderr) == (status, True)


def test_configuration_limits_the_reader_and_hashes_passwords_when_written(tmp_path: Path) -> None:
    settings = load_settings(
        environment="test",
        state_dir=tmp_path,
        warehouse={
            "password": "secret-w",
            "reader_password": "secret-r",
            "max_memory_bytes": 2**30,
        },
    )
    config = write_server_config(settings)
    server = ET.parse(config)
    assert server.findtext("max_server_memory_usage") == str(2**30)
    users_file = Path(str(server.findtext("user_directories/users_xml/path")))
    assert "secret" not in users_file.read_text()
    users = ET.parse(users_file)
    hashed = hashlib.sha256(b"secret-r").hexdigest()
    assert users.findtext("users/herald_reader/password_sha256_hex") == hashed
    assert users.findtext("profiles/reader/readonly") == "1"
    grants = [str(grant.text) for grant in users.findall("users/herald_reader/grants/query")]
    assert "GRANT SELECT ON marts.*" in grants
    assert not [grant for grant in grants if "raw.events" in grant]
    assert users_file.stat().st_mode & 0o077 == 0
