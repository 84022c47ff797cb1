"""`herald setup | up | down | status | logs | restart | reload | doctor`: the embedded platform."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from herald.cli.output import emit, fail

if TYPE_CHECKING:
    from infra.local.platform import Platform

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Names = Annotated[
    list[str] | None, typer.Argument(help="Services, with what they need. Default: all.")
]
Name = Annotated[str, typer.Argument(help="A service, as in `herald status`.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the platform."""
    app.command("setup")(setup)
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("restart")(restart)
    app.command("reload")(reload)
    app.command("doctor")(doctor)


@contextmanager
def _platform() -> Iterator[Platform]:
    """The platform of the settings; its failures end in one message."""
    from herald.settings import load_settings
    from infra.local.kafka import BrokerDownError
    from infra.local.platform import Platform
    from infra.local.service import PlatformError

    try:
        yield Platform(load_settings())
    except (PlatformError, BrokerDownError) as error:
        fail(str(error))


def setup(
    only: Annotated[str, typer.Option(help="Environments, separated by commas.")] = "",
    as_json: Json = False,
) -> None:
    """Install or update environments, jars and system packages (infra/bootstrap.py)."""
    from herald.settings import ROOT

    words = [sys.executable, str(ROOT / "infra" / "bootstrap.py")]
    done = subprocess.run(
        words + (["--only", only] if only else []),
        stdout=sys.stderr if as_json else None,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    if as_json:
        emit({"ready": True}, as_json=True)


def up(names: Names = None, as_json: Json = False) -> None:
    """Start services and wait until they are healthy. What runs already stays as it is."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # then everything is stopped, as at Ctrl-C

    signal.signal(signal.SIGTERM, interrupt)
    with _platform() as platform:
        platform.up(names)
        _show(platform, as_json=as_json)


def down(as_json: Json = False) -> None:
    """Stop everything."""
    with _platform() as platform:
        platform.down()
        emit({"stopped": True}, as_json=as_json)


def status(as_json: Json = False) -> None:
    """Show each service: state, health, process, uptime, address. Exit code 1 if one is unwell."""
    with _platform() as platform:
        if not _show(platform, as_json=as_json):
            raise SystemExit(1)


def _show(platform: Platform, *, as_json: bool) -> bool:
    found = platform.status()
    if as_json:
        emit([asdict(one) for one in found], as_json=True)
    else:
        emit(
            [
                {
                    "service": one.name,
                    "state": one.state,
                    "healthy": "yes" if one.is_healthy else "no",
                    "pid": one.pid or "",
                    "uptime": f"{one.uptime_seconds:.0f} s" if one.pid else "",
                    "address": one.address,
                }
                for one in found
            ],
            as_json=False,
        )
        sys.stdout.write(f"Logins: {platform.settings.state_dir / 'secrets.env'}\n")
    return all(one.is_healthy for one in found if one.state != "stopped")


def logs(
    name: Name,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    as_json: Json = False,
) -> None:
    """Print the end of a service's log."""
    from infra.local.service import tail

    with _platform() as platform:
        (service,) = [one for one in platform.closure([name]) if one.name == name]
        files = [platform.supervisor.log(name), *service.logs]
        if follow:
            words = ["tail", "-n", str(lines), "-F", *map(str, files)]
            raise SystemExit(subprocess.run(words, check=False).returncode)
        if as_json:
            emit({str(path): tail(path, lines).splitlines() for path in files}, as_json=True)
            return
        for path in files:
            sys.stdout.write(f"--- {path}\n{tail(path, lines)}\n")


def restart(name: Name, as_json: Json = False) -> None:
    """Stop one service and start it again with the settings of now."""
    with _platform() as platform:
        platform.restart(name)
        emit({"restarted": name}, as_json=as_json)


def reload(names: Names = None, as_json: Json = False) -> None:
    """Have services read their reloadable settings again (SIGHUP), without a restart.

    Settings that cannot be used are refused here, before any service hears of them.
    """
    with _platform() as platform:
        emit({"reloaded": platform.reload(names)}, as_json=as_json)


def doctor(as_json: Json = False) -> None:
    """Say what is missing or broken, and how to mend it. Exit code 1 if something is."""
    from herald.settings import ROOT
    from infra.local.doctor import examine

    findings = examine(ROOT, Path(ROOT / "var"))
    if as_json:
        emit([asdict(one) for one in findings], as_json=True)
    else:
        emit(
            [
                {
                    "check": one.name,
                    "": "ok" if one.is_ok else "MEND",
                    "found": one.found,
                    "how": "" if one.is_ok else one.remedy,
                }
                for one in findings
            ],
            as_json=False,
        )
    if not all(one.is_ok for one in findings):
        raise SystemExit(1)
