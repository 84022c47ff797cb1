"""Supervisor: its configuration from the services, and a client of its XML-RPC on a Unix socket."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from infra.local import launch
from infra.local.service import PlatformError, Service, tail

SOCKET_PATH_LIMIT = 100  # the kernel's is 108 with the terminating zero
OURS = {Faults.ALREADY_STARTED, Faults.NOT_RUNNING, Faults.SPAWN_ERROR, Faults.ABNORMAL_TERMINATION}


class Supervisor:
    """The supervisor of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir.resolve()
        self.run = self.state_dir / "run"
        self.logs = self.state_dir / "log"
        self.config = self.run / "supervisord.conf"
        self.pid_file = self.run / "supervisord.pid"
        self.socket = socket_path(self.run)

    # -- files ------------------------------------------------------------------------------

    def log(self, name: str) -> Path:
        """Where a service's output goes."""
        return self.logs / f"{name}.log"

    def write_config(self, services: Iterable[Service]) -> None:
        """Write the supervisor's configuration for these services."""
        for folder in (self.run, self.logs, self.socket.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.config.write_text(self.configuration(services))

    def configuration(self, services: Iterable[Service]) -> str:
        """The supervisor's configuration; secrets and environments are in the specs instead."""
        lines = [
            "[unix_http_server]",
            f"file={_quoted(self.socket)}",
            "chmod=0700",
            "[supervisord]",
            f"logfile={_quoted(self.logs / 'supervisord.log')}",
            "logfile_maxbytes=5MB",
            "logfile_backups=1",
            f"pidfile={_quoted(self.pid_file)}",
            f"childlogdir={_quoted(self.logs)}",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for service in services:
            program = f'"{sys.executable}" "{Path(launch.__file__)}" "{self.spec(service.name)}"'
            lines += [
                f"[program:{service.name}]",
                f"command={_quoted(program)}",
                f"stdout_logfile={_quoted(self.log(service.name))}",
                "stdout_logfile_maxbytes=20MB",
                "stdout_logfile_backups=1",
                "redirect_stderr=true",
                "autostart=false",
                "autorestart=true",
                "startsecs=1",
                "startretries=20",
                f"stopsignal={service.stop_signal}",
                f"stopwaitsecs={service.stop_seconds}",
                "stopasgroup=true",
                "killasgroup=true",
            ]
        return "\n".join(lines) + "\n"

    def spec(self, name: str) -> Path:
        """Where the spec of a service is."""
        return self.run / f"{name}.json"

    def write_spec(self, service: Service, environment: dict[str, str], directory: Path) -> str:
        """Write what `launch.py` needs, for its owner only; return its digest."""
        content = json.dumps(
            {
                "argv": list(service.argv),
                "environment": {
                    **environment,
                    **service.environment,
                    launch.MARK: str(self.state_dir),
                },
                "directory": str(directory),
            },
            indent=1,
            sort_keys=True,
        )
        path = self.spec(service.name)
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
        draft.replace(path)
        return hashlib.sha256(content.encode()).hexdigest()

    # -- the process ------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether the supervisor answers."""
        try:
            return self.call("getState") is not None
        except PlatformError:
            return False

    def start(self, *, attached: bool) -> None:
        """Start it, unless it runs. An attached one stops with the process that started it.

        Raises:
            PlatformError: it ended at once or did not answer within 20 s.
        """
        if self.is_alive():
            return
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.config)]
        environment = {**os.environ, launch.MARK: str(self.state_dir)}
        with (self.logs / "supervisord.out").open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is for `herald`, not for it
                preexec_fn=launch.die_with_parent if attached else None,
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.is_alive():
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise PlatformError(
            "the supervisor did not start:\n" + tail(self.logs / "supervisord.out", 15)
        )

    def shutdown(self, wait_seconds: float = 90) -> None:
        """Stop every service and the supervisor, then whatever is left of them."""
        if self.is_alive():
            pid = int(self.call("getPID"))
            self.call("shutdown")
            try:
                psutil.Process(pid).wait(wait_seconds)
            except psutil.NoSuchProcess:
                pass
            except psutil.TimeoutExpired:
                psutil.Process(pid).kill()
        self.reap()

    def reap(self) -> list[int]:
        """End processes of this platform that lost their supervisor; return their ids."""
        left = [process for process in self.processes() if process.pid != os.getpid()]
        for process in left:
            _signal(process, kill=False)
        _, alive = psutil.wait_procs(left, timeout=10)
        for process in alive:
            _signal(process, kill=True)
        psutil.wait_procs(alive, timeout=5)
        return [process.pid for process in left]

    def processes(self) -> list[psutil.Process]:
        """Every process of this platform, known by the mark in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(launch.MARK) == str(self.state_dir):
                    found.append(process)
            except (psutil.Error, OSError):
                continue  # ended meanwhile, or somebody else's
        return found

    # -- calls ------------------------------------------------------------------------------

    def call(self, method: str, *arguments: Any) -> Any:
        """Call one method of supervisor's XML-RPC.

        Raises:
            PlatformError: the supervisor does not run, or refuses.
        """
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        proxy = ServerProxy("http://localhost", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except Fault as fault:
            if fault.faultCode in OURS:
                return False
            raise PlatformError(f"supervisor refuses {method}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException) as error:
            raise PlatformError("the platform is not running (`herald up` starts it)") from error
        finally:
            transport.close()

    def info(self, name: str) -> dict[str, Any]:
        """What the supervisor knows of one service."""
        answer = self.call("getProcessInfo", name)
        return answer if isinstance(answer, dict) else {}

    def reload_config(self) -> None:
        """Take over a configuration that names other services than before."""
        added, changed, removed = self.call("reloadConfig")[0]
        for name in [*changed, *removed]:
            self.call("stopProcessGroup", name)
            self.call("removeProcessGroup", name)
        for name in [*added, *changed]:
            self.call("addProcessGroup", name)


def socket_path(run: Path) -> Path:
    """The supervisor's socket; a long folder name would not fit into a Unix address."""
    path = run / "supervisor.sock"
    if len(str(path)) <= SOCKET_PATH_LIMIT:
        return path
    key = hashlib.sha256(str(run).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"herald-{os.getuid()}-{key}" / "supervisor.sock"


def _quoted(value: object) -> str:
    return str(value).replace("%", "%%")  # supervisor expands %(name)s


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return
