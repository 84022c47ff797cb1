"""An HTTP proxy in front of the warehouse that sees each insert and strikes at an exact moment.

It mocks nothing: requests and answers are the real ones, delivered late, not at all, or replaced by
an error that a busy warehouse gives.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

Moment = Literal["before", "during", "after"]
Outcome = Literal["pass", "drop", "error"]

_HOP = {"transfer-encoding", "connection", "content-length", "keep-alive", "host"}
UPSTREAM_SECONDS = 130.0


@dataclass
class Fault:
    """What happens to matching inserts.

    Attributes:
        table: inserts into it match; '' matches every insert.
        moment: `before` the request is passed on, `during` (started beside it), or `after` the
            warehouse answered.
        act: done at that moment, with the client's port; answers whether it struck. What did not
            strike stays armed.
        outcome: what the client gets: the answer, a closed connection, or `status` and `code`.
        times: how many inserts are struck; 0 is all until disarmed.
        delay_seconds: each matching answer comes later by so much.
    """

    table: str = ""
    moment: Moment = "before"
    act: Callable[[int], bool] = lambda _port: True
    outcome: Outcome = "pass"
    times: int = 1
    delay_seconds: float = 0.0
    status: int = 500
    code: int = 241
    struck: int = 0
    struck_at: float = 0.0
    fired: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def matches(self, statement: str) -> bool:
        """Whether an insert of this statement is to be struck."""
        if not statement.startswith("INSERT INTO "):
            return False
        if self.times and self.struck >= self.times:
            return False
        return not self.table or statement.split(" ", 3)[2] == self.table

    def strike(self, port: int) -> bool:
        """Act once for this insert; False when another insert came first or it found nothing."""
        with self._lock:
            if self.times and self.struck >= self.times:
                return False
            if not self.act(port):
                return False
            self.struck += 1
            if not self.fired.is_set():
                self.struck_at = time.monotonic()
                self.fired.set()
            return True


class FaultProxy:
    """Listens on a port of its own and passes everything to the warehouse. Use as a context."""

    def __init__(self, host: str, port: int, listen_port: int = 0) -> None:
        self.target = (host, port)
        self._fault: Fault | None = None
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", listen_port), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def arm(self, fault: Fault) -> Fault:
        """Strike from now on; replaces what was armed."""
        self._fault = fault
        return fault

    def disarm(self) -> None:
        """Pass everything on again."""
        self._fault = None

    def fault_for(self, statement: str) -> Fault | None:
        """The armed fault, when this statement is one to be struck."""
        fault = self._fault
        return fault if fault is not None and fault.matches(statement) else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy
    _upstream: http.client.HTTPConnection | None = None

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: thousands of lines."""

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.owner.fault_for(_statement(self.path, body))
        if fault is None:
            self._answer(self._forward(body))
        else:
            self._strike(fault, body)

    def _strike(self, fault: Fault, body: bytes) -> None:
        struck, port = False, int(self.client_address[1])
        if fault.moment == "before":
            struck = fault.strike(port)
            if struck and fault.outcome != "pass":
                self._refuse(fault)
                return
        watcher = None
        if fault.moment == "during":
            watcher = threading.Thread(target=fault.strike, args=(port,), daemon=True)
            watcher.start()
        answer = self._forward(body)
        if watcher is not None:
            watcher.join()
        if fault.moment == "after" and answer is not None and answer[0] == 200:
            struck = fault.strike(port)
        if fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        if struck and fault.outcome != "pass":
            self._refuse(fault)
        else:
            self._answer(answer)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Ask the warehouse, once: a second try would be a retry that nobody asked for."""
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        try:
            if self._upstream is None:
                self._upstream = http.client.HTTPConnection(
                    *self.owner.target, timeout=UPSTREAM_SECONDS
                )
            self._upstream.request(self.command, self.path, body=body, headers=headers)
            response = self._upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        except (OSError, http.client.HTTPException):
            if self._upstream is not None:
                self._upstream.close()
            self._upstream = None
            return None

    def _answer(self, answer: tuple[int, list[tuple[str, str]], bytes] | None) -> None:
        if answer is None:
            self.close_connection = True
            return
        status, headers, body = answer
        lines = [f"HTTP/1.1 {status} Proxied"]
        lines += [f"{k}: {v}" for k, v in headers if k.lower() not in _HOP]
        lines += [f"Content-Length: {len(body)}", "", ""]
        self.wfile.write("\r\n".join(lines).encode("latin-1") + body)

    def _refuse(self, fault: Fault) -> None:
        if fault.outcome == "drop":
            self.close_connection = True
            return
        body = f"Code: {fault.code}. DB::Exception: refused by the fault".encode()
        self._answer((fault.status, [("X-ClickHouse-Exception-Code", str(fault.code))], body))


def _statement(path: str, body: bytes) -> str:
    query = parse_qs(urlsplit(path).query).get("query", [""])[0]
    return (query or body[:200].decode("utf-8", "replace")).lstrip()
