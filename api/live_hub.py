"""One poller for each set of filters, whoever watches; its messages go through bounded queues.

A client's only influence on the warehouse is that its filters exist. A view is read twice a second
at most, and less often when a read is dear; the message is made once, whatever the number of
clients.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from herald.engine.errors import EngineError
from herald.engine.pool import Limits, Pool
from herald.live.filters import LiveFilters
from herald.live.queries import VERSION_SQL, Ask
from herald.live.view import LiveView
from herald.settings import Live, Settings

log = logging.getLogger(__name__)

QUERY_SECONDS = 5
PULSE_SECONDS = 0.2
SILENCE_SECONDS = 1.0
"""A message goes out this often even when nothing lands: time passes, and silence means trouble."""

BUSY_SHARE = 2
"""A view is idle at least half of the time, however dear its reads."""

SETTLING_READS = 2
"""An insert shows in one rollup before the other, so what was seen to land is read twice."""

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class LiveFullError(Exception):
    """No place for another view or client; the message says which limit."""


class Figures:
    """Prometheus figures of the live page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients = Gauge("herald_live_clients", "Open WebSockets.", registry=registry)
        self.views = Gauge("herald_live_views", "Sets of filters polled.", registry=registry)
        self.messages = Counter(
            "herald_live_messages_total", "Messages put into queues.", registry=registry
        )
        self.dropped = Counter(
            "herald_live_dropped_clients_total", "Clients too slow to follow.", registry=registry
        )
        self.failures = Counter(
            "herald_live_read_failures_total", "Reads the warehouse failed.", registry=registry
        )
        self.seconds = Histogram(
            "herald_live_read_seconds",
            "Time to read and write one message of a view.",
            buckets=BUCKETS,
            registry=registry,
        )


class Watcher:
    """A client: messages wait in its queue, in whichever channel it is.

    Args:
        messages: how far it may fall behind.
        drop: called when it did, or when its view ended.
    """

    def __init__(self, messages: int, drop: Callable[[], object]) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue(messages)
        self.drop = drop

    def offer(self, message: str) -> bool:
        """Put a message into the queue; false when it is full."""
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            return False
        return True

    def forget(self) -> None:
        """Empty the queue: what waits is of a view that is watched no more."""
        while not self.queue.empty():
            self.queue.get_nowait()


class Channel:
    """One view, its poller and its watchers."""

    def __init__(self, view: LiveView, settings: Live, figures: Figures) -> None:
        self.view = view
        self.watchers: set[Watcher] = set()
        self.waiting = 0
        self.wanted_at = time.monotonic()
        self.latest = ""
        self.ready = asyncio.Event()
        self.landed = asyncio.Event()
        self._settings = settings
        self._figures = figures
        self._reads = SETTLING_READS
        self._problem: dict[str, str] = {}
        self.task = asyncio.create_task(self._run())

    @property
    def is_wanted(self) -> bool:
        """Whether anybody watches, or did a moment ago."""
        if self.watchers or self.waiting:
            self.wanted_at = time.monotonic()
        return time.monotonic() - self.wanted_at <= self._settings.linger_seconds

    async def _run(self) -> None:
        # the first message is whole; after it, dear reads do not hold up the slots
        await asyncio.to_thread(self._read_rest)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._poll())
            both.create_task(self._poll_rest())

    async def _poll(self) -> None:
        while True:
            begun = time.monotonic()
            if self.landed.is_set():
                self.landed.clear()
                self._reads = SETTLING_READS
            landed, self._reads = self._reads > 0, max(0, self._reads - 1)
            self._publish(await asyncio.to_thread(self._read, landed))
            took = time.monotonic() - begun
            self._figures.seconds.observe(took)
            await asyncio.sleep(max(self._settings.poll_seconds, BUSY_SHARE * took) - took)
            rest = SILENCE_SECONDS - (time.monotonic() - begun)
            if rest > 0 and not self._reads and self.view.is_settled:
                try:
                    await asyncio.wait_for(self.landed.wait(), rest)
                except TimeoutError:
                    continue

    async def _poll_rest(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_SECONDS)
            await asyncio.to_thread(self._read_rest)

    def _read(self, landed: bool) -> str:
        if not self._guarded("slots", lambda: self.view.refresh(time.time(), landed=landed)):
            self._reads = SETTLING_READS
        problem = next(iter(self._problem.values()), None)
        return self.view.payload(time.time(), problem).decode()

    def _read_rest(self) -> None:
        self._guarded("rest", lambda: self.view.refresh_rest(time.time()))

    def _guarded(self, what: str, read: Callable[[], None]) -> bool:
        """Read, or remember why not: the view shows what it knows, and says so."""
        try:
            read()
        except EngineError as error:
            self._figures.failures.inc()
            self._problem[what] = str(error)
            return False
        self._problem.pop(what, None)
        return True

    def _publish(self, message: str) -> None:
        self.latest = message
        self.ready.set()
        for watcher in list(self.watchers):
            if watcher.offer(message):
                self._figures.messages.inc()
            else:
                self.watchers.discard(watcher)
                self._figures.dropped.inc()
                watcher.drop()


class Hub:
    """Every view that somebody watches."""

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        self._settings = settings.live
        self._pool = Pool(settings, Limits(size=self._settings.connections, seconds=QUERY_SECONDS))
        self._figures = Figures(registry)
        self._channels: dict[LiveFilters, Channel] = {}
        self._clients = 0
        self._version: object = None
        self._pulse: asyncio.Task[None] | None = None

    def enter(self, drop: Callable[[], object]) -> Watcher:
        """A place for a client; give it back with `leave`.

        Raises:
            LiveFullError: too many clients.
        """
        if self._clients >= self._settings.max_clients:
            raise LiveFullError(
                f"{self._clients} clients watch already; try again later, or raise "
                "HERALD_LIVE__MAX_CLIENTS"
            )
        self._clients += 1
        self._figures.clients.set(self._clients)
        return Watcher(self._settings.queue_messages, drop)

    def watch(self, watcher: Watcher, filters: LiveFilters) -> None:
        """Watch the view of these filters, and no other.

        Raises:
            LiveFullError: too many different views; the watcher stays where it is.
        """
        channel = self._channel(filters)
        self._leave_channel(watcher)
        watcher.forget()
        if channel.latest:
            watcher.offer(channel.latest)
        channel.watchers.add(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Give a client's place back."""
        self._leave_channel(watcher)
        self._clients -= 1
        self._figures.clients.set(self._clients)

    def _leave_channel(self, watcher: Watcher) -> None:
        for channel in self._channels.values():
            if watcher in channel.watchers:
                channel.watchers.discard(watcher)
                channel.wanted_at = time.monotonic()

    async def current(self, filters: LiveFilters) -> str:
        """The newest message of a view, as one who asks once.

        Raises:
            LiveFullError: too many different views.
        """
        channel = self._channel(filters)
        ready = asyncio.create_task(channel.ready.wait())
        channel.waiting += 1
        try:
            await asyncio.wait({ready, channel.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            channel.waiting -= 1
            ready.cancel()
        if channel.task.done():
            channel.task.result()
        return channel.latest

    def _channel(self, filters: LiveFilters) -> Channel:
        channel = self._channels.get(filters)
        if channel is None:
            self._forget_unwanted()
            if len(self._channels) >= self._settings.max_views:
                raise LiveFullError(
                    f"{len(self._channels)} different views are watched already; watch one of "
                    "them, try again later, or raise HERALD_LIVE__MAX_VIEWS"
                )
            view = LiveView(filters, self._ask())
            channel = self._channels[filters] = Channel(view, self._settings, self._figures)
        channel.wanted_at = time.monotonic()
        self._figures.views.set(len(self._channels))
        if self._pulse is None or self._pulse.done():
            self._pulse = asyncio.create_task(self._beat())
        return channel

    def _ask(self) -> Ask:
        return lambda sql, parameters: self._pool.rows(sql, parameters)

    async def _beat(self) -> None:
        """Tell every view when something landed; drop those that nobody watches."""
        while self._channels:
            try:
                version = await asyncio.to_thread(self._look)
            except EngineError:
                version = None  # the views see for themselves, and say so
            if version is None or version != self._version:
                self._version = version
                for channel in self._channels.values():
                    channel.landed.set()
            self._forget_unwanted()
            await asyncio.sleep(PULSE_SECONDS)

    def _look(self) -> object:
        return tuple(self._pool.rows(VERSION_SQL)[0])

    def _forget_unwanted(self) -> None:
        for filters, channel in list(self._channels.items()):
            if not channel.is_wanted or channel.task.done():
                if channel.task.done() and not channel.task.cancelled():
                    _report(channel.task)
                channel.task.cancel()
                del self._channels[filters]
                for watcher in channel.watchers:
                    watcher.drop()
        self._figures.views.set(len(self._channels))

    async def close(self) -> None:
        """End the pollers and close the connections."""
        tasks: list[asyncio.Task[Any]] = [channel.task for channel in self._channels.values()]
        tasks += [self._pulse] if self._pulse else []
        self._channels.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._pool.close)


def _report(task: asyncio.Task[None]) -> None:
    error = task.exception()
    if error is not None:
        log.error("a view of the live page ended", exc_info=error)
