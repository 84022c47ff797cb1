"""Live-page clients in a process of their own: `python -m herald.bench.watchers`, JSON on stdin.

Each holds a connection and notes when the count of its campaign's sent messages grew. It prints a
line when all are connected, and one for each client when it is told to stop (SIGTERM) or time is
over. Messages are searched, not parsed: parsing a thousand pages a second would be the load.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

from herald.bench.websocket import Connection, WebSocketError, open_websocket

AT_ONCE = 20
_SENT = re.compile(rb'"stage":\s*"sent",\s*"value":\s*([0-9.eE+]+)')


@dataclass(frozen=True, slots=True)
class Watch:
    """What the clients of one process do. Travels as JSON: the token is on no command line.

    Attributes:
        host, port, path: of the WebSocket.
        token: bearer token.
        tenant: whose page it is.
        campaigns: filters of the clients in turn; '' is the whole tenant.
        clients: how many.
        seconds: how long, from when all are connected.
    """

    host: str
    port: int
    path: str
    token: str
    tenant: str
    campaigns: list[str]
    clients: int
    seconds: float


@dataclass
class Seen:
    """What one client saw: when the count of sent messages first was so high."""

    campaign: str
    messages: int = 0
    received_bytes: int = 0
    dropped: bool = False
    counts: list[tuple[float, int]] = field(default_factory=list)

    def take(self, message: bytes, at: float) -> None:
        """Note a message that was received at a Unix time in s."""
        self.messages += 1
        self.received_bytes += len(message)
        found = _SENT.search(message)
        if found and self.campaign:
            count = int(float(found[1]))
            if not self.counts or count > self.counts[-1][1]:
                self.counts.append((round(at, 4), count))


class Watchers:
    """All clients of this process."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.seen: list[Seen] = []
        self.refused: list[str] = []
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Connect, watch, and print what was seen."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        gate = asyncio.Semaphore(AT_ONCE)
        connections = await asyncio.gather(
            *(self._connect(gate, n) for n in range(self.watch.clients))
        )
        open_ones = [pair for pair in connections if pair is not None]
        _say(connected=len(open_ones), refused=self.refused[:3])
        tasks = [asyncio.create_task(self._follow(*pair)) for pair in open_ones]
        try:
            await asyncio.wait_for(self._stopping.wait(), self.watch.seconds)
        except TimeoutError:
            self._stopping.set()
        await asyncio.gather(*(connection.close() for connection, _ in open_ones))
        await asyncio.wait(tasks, timeout=5) if tasks else None
        for seen in self.seen:
            _say(**asdict(seen))

    async def _connect(
        self, gate: asyncio.Semaphore, number: int
    ) -> tuple[Connection, Seen] | None:
        watch = self.watch
        campaign = watch.campaigns[number % len(watch.campaigns)]
        wanted = {"tenant": watch.tenant, "campaign": campaign, "window": "60"}
        query = urlencode({name: value for name, value in wanted.items() if value})
        headers = {"Authorization": f"Bearer {watch.token}"}
        async with gate:
            try:
                path = f"{watch.path}?{query}"
                connection = await open_websocket(watch.host, watch.port, path, headers)
            except WebSocketError as error:
                self.refused.append(str(error))
                return None
        seen = Seen(campaign)
        self.seen.append(seen)
        return connection, seen

    async def _follow(self, connection: Connection, seen: Seen) -> None:
        async for message in connection.messages():
            seen.take(message, time.time())
        seen.dropped = not self._stopping.is_set()


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def allow_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> None:
    """Entry point of the process."""
    watch = Watch(**json.loads(sys.stdin.readline()))
    allow_files(watch.clients + 256)
    asyncio.run(Watchers(watch).run())


if __name__ == "__main__":
    main()
