"""The embedded S3 server of the lake: SeaweedFS in one process, on loopback, with keys."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa

from herald.lake.store import filesystem
from herald.settings import Settings
from infra.local.ports import is_listening
from infra.local.service import Service


def service(settings: Settings) -> Service:
    """The server as the supervisor runs it; its catalog needs PostgreSQL."""
    lake = settings.lake
    ports = {"HERALD_LAKE__PORT": lake.port}
    ports |= {f"HERALD_LAKE__INTERNAL_PORTS[{i}]": p for i, p in enumerate(lake.internal_ports)}
    return Service(
        name="lake",
        argv=command(settings),
        is_healthy=partial(is_healthy, settings),
        address=lake.url,
        needs=("postgres",),
        ports=ports,
        prepare=partial(prepare, settings),
        finish=partial(finish, settings),
    )


def command(settings: Settings) -> list[str]:
    """How the server is started: master, volume server, filer and S3 in one process."""
    lake = settings.lake
    state = settings.state_dir.resolve()
    master, volume, filer, master_grpc, volume_grpc, filer_grpc, s3_grpc = lake.internal_ports
    return [
        str(Path(sys.executable).parent / "weed"),
        "-logtostderr",
        "server",
        f"-dir={state / 'lake'}",
        f"-ip={lake.host}",
        f"-ip.bind={lake.host}",
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
        "-volume.max=0",  # as many as the disk holds
        "-filer",
        f"-filer.port={filer}",
        f"-filer.port.grpc={filer_grpc}",
        "-filer.disableDirListing",
        "-s3",
        f"-s3.port={lake.port}",
        f"-s3.port.grpc={s3_grpc}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        f"-s3.config={_keys(settings)}",
    ]


def prepare(settings: Settings) -> None:
    """Make the data folder and write the keys, for their owner only."""
    (settings.state_dir / "lake").mkdir(parents=True, exist_ok=True)
    path = _keys(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    lake = settings.lake
    keys = {
        "accessKey": lake.access_key.get_secret_value(),
        "secretKey": lake.secret_key.get_secret_value(),
    }
    identity = {"name": "herald", "credentials": [keys], "actions": ["Admin"]}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"identities": [identity]}, file)


def finish(settings: Settings) -> None:
    """Make the bucket."""
    filesystem(settings.lake).create_dir(settings.lake.bucket)


def is_healthy(settings: Settings) -> bool:
    """Whether it takes our keys."""
    lake = settings.lake
    if not is_listening(lake.host, lake.port):  # the client would retry for minutes
        return False
    try:
        filesystem(lake).get_file_info(lake.bucket)
    except (OSError, pa.ArrowException):
        return False
    return True


def _keys(settings: Settings) -> Path:
    return settings.state_dir.resolve() / "run" / "lake_keys.json"
