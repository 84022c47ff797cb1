"""Wiring: settings to engine, application and uvicorn."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import uvicorn

from herald.settings import Settings
from infra.local.clickhouse_server.config import clean_spool, write_config

_GRACE_SECONDS = 5
"""How long running queries may go on after SIGTERM; then they are killed."""
_STUCK_SECONDS = 20


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; unlike uvicorn, do not die of it before the engine is closed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(self._ready)
        sys.stdout.flush()


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT.

    Returns:
        0 after a clean stop, 1 when the address is taken or the data folder cannot be opened.
    """
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    warehouse = settings.warehouse
    try:
        listener = _listen(warehouse.host, warehouse.port)
    except OSError as error:
        sys.stderr.write(
            f"cannot listen on {warehouse.host}:{warehouse.port} "
            f"(HERALD_WAREHOUSE__HOST, HERALD_WAREHOUSE__PORT): {error.strerror}\n"
        )
        return 1
    paths = write_config(settings)
    os.environ["TZ"] = "UTC"  # the engine takes its time zone from the process
    os.chdir(
        paths.spool.parent
    )  # the engine reads a config.xml of the working directory at its import

    from infra.local.clickhouse_server.app import Application
    from infra.local.clickhouse_server.engine import Engine

    try:
        engine = Engine(paths)
    except RuntimeError as error:
        sys.stderr.write(
            f"the engine cannot open {paths.data}: {error} (does another server own it?)\n"
        )
        return 1
    clean_spool(paths)  # only now: the engine's lock says that nobody else uses the folder
    app = Application(warehouse, engine, paths.spool)
    server = _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
            date_header=False,
        ),
        f"warehouse ready at http://{warehouse.host}:{warehouse.port} "
        f"(ClickHouse {engine.version}, embedded)\n",
    )
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    # what was built so far lives as long as the process: keep collections short
    gc.collect()
    gc.freeze()
    server.run(sockets=[listener])
    # a query that ignores its kill must not hold up the stop for ever; the data is safe anyway
    watchdog = threading.Timer(_STUCK_SECONDS, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    engine.stop_queries()
    app.close()
    engine.close()
    watchdog.cancel()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
