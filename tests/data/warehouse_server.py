"""A warehouse server of a test's own: started, asked, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect
import urllib3
from clickhouse_connect.driver.client import Client

from herald.settings import ROOT
from infra.local.ports import free_ports

WRITER, WRITER_PASSWORD = "herald", "writer-password"
READER, READER_PASSWORD = "herald_reader", "reader-password"


class WarehouseServer:
    """`python -m infra.local.clickhouse_server` on a free port over a folder."""

    def __init__(self, folder: Path, **limits: object) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.folder = folder
        self.log = folder / "server.log"
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._http = urllib3.PoolManager(maxsize=32)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> WarehouseServer:
        environment = {
            **os.environ,
            "HERALD_ENVIRONMENT": "test",
            "HERALD_STATE_DIR": str(self.folder),
            "HERALD_WAREHOUSE__PORT": str(self.port),
            "HERALD_WAREHOUSE__PASSWORD": WRITER_PASSWORD,
            "HERALD_WAREHOUSE__READER_PASSWORD": READER_PASSWORD,
        }
        for name, value in self._limits.items():
            environment[f"HERALD_WAREHOUSE__{name.upper()}"] = str(value)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.local.clickhouse_server"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 60
        while b"warehouse ready" not in self.log.read_bytes():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()

    def connect(self, user: str = WRITER, **options: Any) -> Client:
        password = WRITER_PASSWORD if user == WRITER else READER_PASSWORD
        options.setdefault("autogenerate_session_id", False)
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, username=user, password=password, **options
        )

    def ask(
        self,
        body: bytes | str | Iterator[bytes] = b"",
        *,
        user: str = WRITER,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        path: str = "",
        preload: bool = True,
        timeout: float = 60,
        **url: object,
    ) -> Any:
        """One plain request; the answer's body is not decompressed."""
        login = {
            "X-ClickHouse-User": user,
            "X-ClickHouse-Key": WRITER_PASSWORD if user == WRITER else READER_PASSWORD,
        }
        return self._http.request(
            method,
            self.url + path + ("?" + urlencode(url) if url else ""),
            body=body.encode() if isinstance(body, str) else body,
            headers=login if headers is None else {**login, **headers},
            preload_content=preload,
            decode_content=False,
            timeout=timeout,
            retries=False,
        )

    def scalar(self, sql: str) -> str:
        """The only value of a query, as text."""
        answer = self.ask(sql)
        assert answer.status == 200, answer.data
        text: str = answer.data.decode()
        return text.rstrip("\n")

    def wait_for(self, sql: str, wanted: str, seconds: float = 15) -> str:
        """Ask until the value is the wanted one; the last value seen."""
        deadline = time.monotonic() + seconds
        while (seen := self.scalar(sql)) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        return seen
