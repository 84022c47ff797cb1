"""Wiring: settings to engine, application and uvicorn."""

from __future__ import annotations

import os
import socket
import sys
import tempfile

import uvicorn

from herald.settings import Settings
from infra.local.clickhouse_server.app import Application
from infra.local.clickhouse_server.config import write_config


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.config.host, self.config.port
            sys.stdout.write(f"warehouse ready at http://{host}:{port} (chDB)\n")
            sys.stdout.flush()


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status."""
    paths = write_config(settings)
    # the engine reads config.xml of the working directory while it is imported
    os.chdir(tempfile.gettempdir() if not paths.data.is_dir() else paths.data.parent)
    from infra.local.clickhouse_server.engine import Engine

    engine = Engine(paths)
    app = Application(settings.warehouse, engine)
    config = uvicorn.Config(
        app,
        host=settings.warehouse.host,
        port=settings.warehouse.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=20,
        server_header=False,
        date_header=False,
        backlog=2048,
    )
    server = _Server(config)
    server.run()
    engine.close()
    return 0 if server.started else 1
