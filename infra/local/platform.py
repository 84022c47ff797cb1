"""The embedded platform: starts, watches and stops its services together.

platform = Platform(load_settings())
platform.up()          # everything, or up(["kafka", "warehouse"]) with what they need
platform.status()
platform.down()
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from herald.settings import ROOT, Settings
from infra.local.environment import child_environment
from infra.local.ports import is_listening, listener
from infra.local.secrets import with_secrets
from infra.local.service import PlatformError, Progress, Service, ServiceStatus, tail
from infra.local.services import build_services
from infra.local.supervision import Supervisor

START_PATIENCE = 120  # seconds that a running process has to become healthy before `up` restarts it
RESTARTS_TOLERATED = 2  # while a service starts; a third end of its process is a failure


def to_stderr(line: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Platform:
    """The services of one state folder, under one supervisor."""

    def __init__(
        self,
        settings: Settings,
        *,
        services: Mapping[str, Service] | None = None,
        progress: Progress = to_stderr,
        attached: bool = False,
    ) -> None:
        """Prepare, without starting anything.

        Args:
            settings: secrets still empty are taken from the generated ones.
            services: others than those of the settings, for tests.
            progress: takes one line for each thing that happens.
            attached: the platform ends with this process (tests), instead of outliving it.
        """
        self.settings = with_secrets(settings)
        self.services = dict(services or build_services(self.settings))
        self.supervisor = Supervisor(self.settings.state_dir)
        self._attached = attached
        self._started = time.monotonic()
        self._print = progress

    # -- up ---------------------------------------------------------------------------------

    def up(self, names: Iterable[str] | None = None) -> None:
        """Start services with what they need, in order, side by side where possible.

        Services that run with the same settings stay as they are. Interrupted, everything stops.

        Raises:
            PlatformError: a port is taken, or a service did not become healthy in time; the
                message ends with its log. What is healthy stays up.
        """
        self._started = time.monotonic()
        chosen = self.closure(self.services if names is None else names)
        self.supervisor.write_config(self.services.values())
        try:
            if self.supervisor.is_alive():
                self.supervisor.reload_config()
            else:
                if left := self.supervisor.reap():
                    self._say(f"ended {len(left)} processes left without a supervisor")
                self._refuse_taken_ports(chosen)
                self.supervisor.start(attached=self._attached)
            self._start_all(chosen)
        except KeyboardInterrupt:
            self._say("interrupted: stopping everything")
            self.down()
            raise

    def closure(self, names: Iterable[str]) -> list[Service]:
        """The named services and all they need.

        Raises:
            PlatformError: a name that is no service.
        """
        chosen: dict[str, Service] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in self.services:
                known = ", ".join(self.services)
                raise PlatformError(f"no service {name!r}; there are: {known}")
            if name not in chosen:
                chosen[name] = self.services[name]
                waiting += self.services[name].needs
        return [service for service in self.services.values() if service.name in chosen]

    def _refuse_taken_ports(self, services: Iterable[Service]) -> None:
        taken = [
            f"{service.name}: port {port} ({setting}) is in use by {listener(port)}"
            for service in services
            for setting, port in service.ports.items()
            if is_listening("127.0.0.1", port)
        ]
        if taken:
            raise PlatformError(
                "\n  ".join(["these ports are taken:", *taken])
                + "\nStop those programs, or set other ports (see .env.example)."
            )

    def _start_all(self, services: list[Service]) -> None:
        names = {service.name for service in services}
        waiting = {service.name: set(service.needs) & names for service in services}
        stop = threading.Event()
        problems: list[str] = []
        with ThreadPoolExecutor(max_workers=max(1, len(services))) as pool:
            running: dict[Future[None], str] = {}
            try:
                while waiting or running:
                    for name in [name for name, needs in waiting.items() if not needs]:
                        del waiting[name]
                        running[pool.submit(self._start_one, self.services[name], stop)] = name
                    if not running:
                        break  # what is left needs a service that failed
                    done, _ = wait(running, return_when=FIRST_COMPLETED, timeout=1)
                    for future in done:
                        name = running.pop(future)
                        error = future.exception()
                        if error is None:
                            for needs in waiting.values():
                                needs.discard(name)
                        else:
                            problems.append(f"{name}: {error}")
                            self._say(f"{name}: failed")
            except KeyboardInterrupt:
                stop.set()
                raise
        if problems:
            if waiting:
                problems.append("not started, because of that: " + ", ".join(waiting))
            raise PlatformError("\n".join(problems))

    def _start_one(self, service: Service, stop: threading.Event) -> None:
        started = time.monotonic()
        environment = child_environment(self.settings)
        digest_file = self.supervisor.run / f"{service.name}.started"
        info = self.supervisor.info(service.name)
        digest = self.supervisor.write_spec(service, environment, ROOT)
        if info.get("statename") == "RUNNING":
            same = digest_file.is_file() and digest_file.read_text() == digest
            # just started or killed: it gets its time; long up: busy for a moment at most
            patience = max(15, START_PATIENCE - (info["now"] - info["start"]))
            if same and self._is_healthy_soon(service, patience):
                self._say(f"{service.name}: already up")
                return
            self._say(f"{service.name}: {'unhealthy' if same else 'settings changed'}, restarting")
            self.supervisor.call("stopProcess", service.name)
        service.prepare()
        if stop.is_set():
            return
        self._say(f"{service.name}: starting")
        _remove(service.marks)
        log = self.supervisor.log(service.name)
        from_byte = log.stat().st_size if log.is_file() else 0
        self.supervisor.call("startProcess", service.name, False)
        try:
            self._wait_healthy(service, stop, from_byte)
            service.finish()
        except PlatformError:
            self.supervisor.call("stopProcess", service.name)  # or it would fail for ever
            raise
        digest_file.write_text(digest)
        self._say(f"{service.name}: healthy after {time.monotonic() - started:.1f} s")

    def _is_healthy_soon(self, service: Service, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not service.is_healthy():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def _wait_healthy(self, service: Service, stop: threading.Event, from_byte: int) -> None:
        deadline = time.monotonic() + service.start_seconds
        pids: set[int] = set()
        while not stop.is_set():
            info = self.supervisor.info(service.name)
            if info.get("pid"):
                pids.add(info["pid"])
            gone = info.get("statename") in {"FATAL", "EXITED", "STOPPED"}
            if gone or len(pids) > RESTARTS_TOLERATED + 1:
                reason = f"its process ended ({info.get('spawnerr') or info.get('exitstatus')})"
                raise PlatformError(self._failure(service, reason, from_byte))
            if info.get("statename") == "RUNNING" and service.is_healthy():
                return
            if time.monotonic() > deadline:
                reason = f"not healthy after {service.start_seconds:.0f} s at {service.address}"
                raise PlatformError(self._failure(service, reason, from_byte))
            time.sleep(0.25)

    def _failure(self, service: Service, reason: str, from_byte: int) -> str:
        lines = [f"{reason}. The end of its log:"]
        for path in (self.supervisor.log(service.name), *service.logs):
            if end := tail(path):
                lines += [f"--- {path}", end]
        return "\n".join(lines)

    # -- the rest ---------------------------------------------------------------------------

    def down(self) -> None:
        """Stop everything, in any state; nothing of the platform is left running.

        What nobody needs any more goes first: a scheduler whose database is gone hangs.
        """
        if self.supervisor.is_alive():
            running = {
                info["name"]
                for info in self.supervisor.call("getAllProcessInfo")
                if info["statename"] not in {"STOPPED", "EXITED", "FATAL"}
            }
            while running:
                needed = {
                    need
                    for name in running & self.services.keys()
                    for need in self.services[name].needs
                }
                leaving = running - needed
                with ThreadPoolExecutor(max_workers=len(leaving)) as pool:
                    list(pool.map(self._stop_quietly, leaving))
                running -= leaving
        self.supervisor.shutdown()

    def _stop_quietly(self, name: str) -> None:
        try:
            self.supervisor.call("stopProcess", name)
        except PlatformError:
            self._say(f"{name}: did not take the stop; the shutdown ends it")

    def restart(self, name: str) -> None:
        """Stop one service and start it again with the settings of now.

        Raises:
            PlatformError: no such service, the platform is down, or it did not come back.
        """
        service = self.closure([name])
        self.supervisor.call("stopProcess", name)
        self._start_all([one for one in service if one.name == name])

    def stop(self, name: str) -> None:
        """Stop one service; it stays down until `up` or `restart`."""
        self.closure([name])
        self.supervisor.call("stopProcess", name)

    def kill(self, name: str) -> int:
        """SIGKILL one service with its children, as a fault; the supervisor brings it back.

        Returns:
            The process id that was killed.

        Raises:
            PlatformError: no such service, or it does not run.
        """
        self.closure([name])
        pid = int(self.supervisor.info(name).get("pid") or 0)
        if not pid:
            raise PlatformError(f"{name} does not run")
        os.killpg(pid, signal.SIGKILL)  # supervisor makes every program a group leader
        _remove(self.services[name].marks)
        return pid

    def wait_healthy(self, name: str, timeout_seconds: float = 120) -> float:
        """Wait until one service serves (again); return the seconds it took.

        Raises:
            PlatformError: it did not in time.
        """
        service = self.services[name]
        started = time.monotonic()
        while time.monotonic() - started < timeout_seconds:
            if service.is_healthy():
                return time.monotonic() - started
            time.sleep(0.1)
        raise PlatformError(
            f"{name}: {self._failure(service, f'not healthy after {timeout_seconds:.0f} s', 0)}"
        )

    def reload(self, names: Iterable[str] | None = None) -> list[str]:
        """Send SIGHUP to the running services that read their settings again at it.

        Returns:
            Names of the services that got it.
        """
        asked = [
            service.name
            for service in self.services.values()
            if service.reloads and (names is None or service.name in names)
        ]
        return [name for name in asked if self.supervisor.call("signalProcess", name, "HUP")]

    def status(self) -> list[ServiceStatus]:
        """How every service is; all are asked at once."""
        with ThreadPoolExecutor(max_workers=max(1, len(self.services))) as pool:
            return list(pool.map(self._status_of, self.services.values()))

    def _status_of(self, service: Service) -> ServiceStatus:
        try:
            info = self.supervisor.info(service.name)
        except PlatformError:
            info = {}
        state = str(info.get("statename", "STOPPED")).lower()
        is_running = state == "running"
        return ServiceStatus(
            name=service.name,
            state="stopped" if state == "exited" else state,
            is_healthy=is_running and service.is_healthy(),
            pid=info.get("pid") or None,
            uptime_seconds=float(info["now"] - info["start"]) if is_running else 0.0,
            address=service.address,
            log=str(self.supervisor.log(service.name)),
        )

    def _say(self, line: str) -> None:
        self._print(f"[{time.monotonic() - self._started:6.1f} s] {line}")


def _remove(marks: Iterable[Path]) -> None:
    for mark in marks:
        mark.unlink(missing_ok=True)
