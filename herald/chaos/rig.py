"""A platform to break: broker, warehouse behind the proxy, Valkey, landing; folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from herald.chaos.disk import small_disk
from herald.chaos.producer import EventProducer
from herald.chaos.proxy import FaultProxy
from herald.settings import ROOT, Settings, load_settings, secrets_file
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError
from infra.local.environment import child_environment
from infra.local.platform import Platform
from infra.local.ports import free_ports
from infra.local.secrets import ensure_secrets
from infra.local.service import PlatformError, Service, tail
from infra.local.services import build_services

SERVICES = ("kafka", "warehouse", "valkey")
POLL_SECONDS = 0.1
SETTLED_SECONDS = 1.0
"""Landing has caught up when all that is older than this has landed; more on a busy machine."""

STEADY_SECONDS = 5.0
BUSY_SECONDS = 60.0


class ChaosError(Exception):
    """The platform did not come back by itself, or the harness could not strike."""


class Rig:
    """The platform under attack. Use as a context: it starts everything and ends everything."""

    def __init__(
        self, settings: Settings, *, rate: int, seed: int, limits_disk: bool = True
    ) -> None:
        self.platform_settings = settings
        self.proxy = FaultProxy(settings.warehouse.host, settings.warehouse.port)
        self.platform = Platform(
            settings,
            services=_through_proxy(settings, self.proxy.port),
            progress=lambda _line: None,
            attached=True,
        )
        self.settings = self.platform.settings
        self.topic = settings.kafka.topics.events
        self.rate, self.seed = rate, seed
        self.settled_seconds = SETTLED_SECONDS
        self.disk: Path | None = None
        self._limits_disk = limits_disk
        self.producer: EventProducer
        self._stack = contextlib.ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Rig:
        try:
            if self._limits_disk:
                self.disk = self._stack.enter_context(small_disk(self.settings.state_dir))
            self._stack.enter_context(self.proxy)
            self._stack.callback(self.platform.down)
            self.platform.up([*SERVICES, "landing"])
            self.producer = self._stack.enter_context(
                EventProducer(
                    self.settings.kafka.servers,
                    self.topic,
                    rate=self.rate,
                    seed=self.seed,
                    partitions=len(self.end_offsets()),
                )
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- what stands where ------------------------------------------------------------------

    def client(self) -> Client:
        """A client of the warehouse itself, not through the proxy."""
        if self._client is None:
            self._client = connect(self.settings.warehouse, timeout_seconds=30)
        return self._client

    def end_offsets(self) -> dict[int, int]:
        """Next offset of each partition, from the broker."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka.servers,
                "group.id": "chaos",
                "log_level": 0,
            }
        )
        try:
            found = consumer.list_topics(self.topic, timeout=30).topics[self.topic].partitions
            return {
                p: consumer.get_watermark_offsets(KafkaPartition(self.topic, p), timeout=30)[1]
                for p in found
            }
        finally:
            consumer.close()

    def covered(self) -> int:
        """Offsets that the ledger accounts for; -1 while the warehouse does not answer."""
        try:
            rows = (
                self.client()
                .query(
                    "SELECT sum(last_offset - first_offset + 1) FROM raw.landed_ranges "
                    "WHERE topic = {t:String}",
                    parameters={"t": self.topic},
                )
                .result_rows
            )
        except (ClickHouseError, WarehouseDownError, OSError):
            self._client = None
            return -1
        return int(rows[0][0])

    def rollup_folders(self) -> list[Path]:
        """Where the engine keeps the parts of the rollups."""
        rows = (
            self.client()
            .query(
                "SELECT data_paths FROM system.tables WHERE database = 'live' "
                "AND name LIKE 'events_%' AND notEmpty(data_paths)"
            )
            .result_rows
        )
        return [Path(path) for (paths,) in rows for path in paths]

    def wait(self, what: str, done: Callable[[], bool], seconds: float) -> None:
        """Poll until done.

        Raises:
            ChaosError: it was not in time; the message ends with the landing's log.
        """
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                log = tail(self.settings.state_dir / "log" / "landing.log", 8)
                raise ChaosError(f"{what}: not within {seconds:.0f} s; the landing's log:\n{log}")
            time.sleep(POLL_SECONDS)

    def learn_steady(self) -> None:
        """Learn how old events become here before they land, while nothing is wrong."""
        self.wait_caught_up()
        history = [(time.monotonic(), self.producer.acknowledged)]
        oldest, until = 0.0, time.monotonic() + STEADY_SECONDS
        while time.monotonic() < until:
            covered, now = self.covered(), time.monotonic()
            history.append((now, self.producer.acknowledged))
            oldest = max(oldest, now - max((at for at, n in history if n <= covered), default=now))
            time.sleep(POLL_SECONDS)
        self.settled_seconds = max(SETTLED_SECONDS, 2 * oldest)

    def wait_caught_up(self, seconds: float = 300.0) -> None:
        """Wait until all that was acknowledged `settled_seconds` ago has landed.

        A wait that is long already lets events become older: the machine is busy with other work,
        and what counts, that all of it lands once, is counted afterwards.
        """
        began = time.monotonic()
        history = [(began, self.producer.acknowledged)]

        def caught_up() -> bool:
            covered, now = self.covered(), time.monotonic()
            history.append((now, self.producer.acknowledged))
            age = self.settled_seconds * (1 + (now - began) // BUSY_SECONDS)
            settled = [n for at, n in history if at <= now - age]
            return bool(settled) and covered >= settled[-1]

        self.wait("landing caught up", caught_up, seconds)

    # -- victims ----------------------------------------------------------------------------

    def kill(self, victim: str, port: int = 0) -> bool:
        """SIGKILL a victim; False when it does not run (yet).

        Args:
            victim: driver (the whole landing), worker, or a service.
            port: of a worker, the one that talks to the warehouse from there.
        """
        if victim == "worker":
            return self._kill_worker(port)
        try:
            self.platform.kill("landing" if victim == "driver" else victim)
        except (PlatformError, ProcessLookupError):
            return False
        return True

    def _kill_worker(self, port: int) -> bool:
        for worker in reversed(self.workers()):
            with contextlib.suppress(psutil.Error):
                if not port or any(c.laddr.port == port for c in worker.net_connections("tcp")):
                    worker.kill()
                    return True
        return False

    def workers(self) -> list[psutil.Process]:
        """Python workers of Spark that land ranges, youngest last: children of its daemon."""
        landing = self.pid("landing")
        if landing is None:
            return []
        found = []
        for child in psutil.Process(landing).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                parent = child.parent()
                if parent and _is_daemon(child) and _is_daemon(parent):
                    found.append(child)
        return found

    def pid(self, service: str) -> int | None:
        """Process id of a service, None while it does not run."""
        return int(self.platform.supervisor.info(service).get("pid") or 0) or None

    @contextlib.contextmanager
    def paused(self, service: str) -> Iterator[None]:
        """Hold a whole service with SIGSTOP, as a machine that froze; then let it go on."""
        pid = self.pid(service)
        if pid is None:
            raise ChaosError(f"{service} does not run")
        os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def own_landing(
        self, state_dir: Path, log: Path, variables: dict[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A landing job of the same topics beside the supervised one; killed at the end.

        Args:
            state_dir: where it keeps its checkpoint: the same folder, or as from another machine.
            log: what it prints.
            variables: more of its environment.
        """
        state_dir.mkdir(parents=True, exist_ok=True)
        if state_dir != self.settings.state_dir:  # another machine would be given them
            shutil.copy2(secrets_file(self.settings.state_dir), secrets_file(state_dir))
        environment = {
            **os.environ,
            **child_environment(self.settings),
            "HERALD_STATE_DIR": str(state_dir),
            "HERALD_WAREHOUSE__PORT": str(self.proxy.port),
            **(variables or {}),
        }
        with log.open("ab") as out:
            job = subprocess.Popen(
                [sys.executable, "-m", "spark_jobs.jobs.land_events"],
                env=environment,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                start_new_session=True,
            )
        try:
            yield job
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.wait(20)

    @contextlib.contextmanager
    def without_landing(self) -> Iterator[None]:
        """The supervised landing is stopped meanwhile."""
        self.platform.stop("landing")
        try:
            yield
        finally:
            self.platform.supervisor.call("startProcess", "landing", False)

    def add_partitions(self, count: int) -> int:
        """Give the topic more partitions; returns how many it has now."""
        total = len(self.end_offsets()) + count
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.servers})
        admin.create_partitions([NewPartitions(self.topic, total)])[self.topic].result(30)
        self.producer.partitions = total
        return total


def own_settings(state: Path, base: Settings | None = None, **landing: object) -> Settings:
    """Settings of a platform of its own: free ports, own secrets, small ranges."""
    ensure_secrets(state)
    kafka, controller, warehouse, valkey = free_ports(4)
    return load_settings(
        state_dir=state,
        environment=base.environment if base else "local",
        kafka={"port": kafka, "controller_port": controller},
        warehouse={"port": warehouse},
        valkey={"port": valkey},
        airflow={"enabled": False},
        superset={"enabled": False},
        mlflow={"enabled": False},
        api={"enabled": False},
        alerts={"enabled": False},
        # small ranges: a kill falls between the ranges of a batch, not only between batches
        landing={
            **(base.landing.model_dump() if base else {}),
            "range_offsets": 1_000,
            "trigger_seconds": 0.2,
            **landing,
        },
    )


def _through_proxy(settings: Settings, port: int) -> dict[str, Service]:
    services = build_services(settings)
    landing = services["landing"]
    services["landing"] = replace(
        landing, environment={**landing.environment, "HERALD_WAREHOUSE__PORT": str(port)}
    )
    return services


def _is_daemon(process: psutil.Process) -> bool:
    return "pyspark.daemon" in " ".join(process.cmdline())
