"""Platform up and down with small real processes: faults, messages, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from herald.settings import Settings, load_settings
from infra.local.health import answers
from infra.local.platform import Platform
from infra.local.service import PlatformError, Service

Build = Callable[..., Platform]


def web(name: str, port: int, *more: str, needs: tuple[str, ...] = ()) -> Service:
    """A web server with a child of its own, as many services have."""
    code = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'http.server', *sys.argv[1:]])"
    )
    return Service(
        name=name,
        argv=[sys.executable, "-c", code, str(port), "--bind", "127.0.0.1", *more],
        is_healthy=partial(answers, f"http://127.0.0.1:{port}"),
        address=f"http://127.0.0.1:{port}",
        ports={f"HERALD_{name.upper()}__PORT": port},
        needs=needs,
        start_seconds=30,
    )


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return load_settings(environment="test", state_dir=tmp_path)


@pytest.fixture
def build(own: Settings) -> Iterator[Build]:
    made: list[Platform] = []

    def make(*services: Service, lines: list[str] | None = None) -> Platform:
        by_name = {service.name: service for service in services}
        keep = lines if lines is not None else []
        made.append(Platform(own, services=by_name, attached=True, progress=keep.append))
        return made[-1]

    yield make
    for platform in made:
        platform.down()
        assert platform.supervisor.processes() == []


def test_services_start_in_order_and_leave_nothing(
    build: Build, free_port: Callable[[], int]
) -> None:
    lines: list[str] = []
    platform = build(
        web("second", free_port(), needs=("first",)), web("first", free_port()), lines=lines
    )
    platform.up()
    said = [line.split("] ")[1] for line in lines]
    assert said.index("second: starting") > [s.startswith("first: healthy") for s in said].index(
        True
    )
    status = {one.name: one for one in platform.status()}
    assert all(one.is_healthy and one.state == "running" for one in status.values())
    processes = platform.supervisor.processes()
    assert len(processes) == 5  # the supervisor, two services, a child of each

    platform.down()
    assert platform.supervisor.processes() == []
    assert all(one.state == "stopped" for one in platform.status())
    platform.down()  # twice in life, twice in a test


def test_up_again_changes_nothing_unless_the_settings_changed(
    build: Build, free_port: Callable[[], int]
) -> None:
    port = free_port()
    platform = build(web("one", port))
    platform.up()
    before = platform.status()[0].pid
    platform.up()
    assert platform.status()[0].pid == before
    changed = build(web("one", port, "--directory", "/"))
    changed.up()
    assert changed.status()[0].pid != before


def test_killed_service_comes_back(build: Build, free_port: Callable[[], int]) -> None:
    platform = build(web("one", free_port()))
    platform.up()
    victim = platform.kill("one")
    deadline = time.monotonic() + 20
    while platform.status()[0].pid in {victim, None} and time.monotonic() < deadline:
        time.sleep(0.1)
    platform.wait_healthy("one", 20)
    assert platform.status()[0].pid != victim


def test_restart_and_stop_of_one_service(build: Build, free_port: Callable[[], int]) -> None:
    platform = build(web("one", free_port()))
    platform.up()
    before = platform.status()[0].pid
    platform.restart("one")
    assert platform.status()[0].pid != before
    platform.stop("one")
    assert platform.status()[0].state == "stopped"
    with pytest.raises(PlatformError, match="one does not run"):
        platform.kill("one")


def test_message_ends_with_the_log_when_a_process_ends(build: Build) -> None:
    code = "import sys; print('the reason is here'); sys.exit(3)"
    service = Service("broken", [sys.executable, "-c", code], lambda: False, "nowhere")
    with pytest.raises(PlatformError, match=r"its process ended(?s:.)*the reason is here"):
        build(service).up()


def test_message_ends_with_the_log_when_it_never_gets_healthy(build: Build) -> None:
    code = "import time; print('waiting for a key', flush=True); time.sleep(60)"
    service = Service(
        "slow", [sys.executable, "-c", code], lambda: False, "nowhere", start_seconds=2
    )
    after = Service("after", ["sleep", "60"], lambda: True, "nowhere", needs=("slow",))
    platform = build(service, after)
    with pytest.raises(PlatformError) as caught:
        platform.up()
    message = str(caught.value)
    assert "slow: not healthy after 2 s at nowhere" in message
    assert "waiting for a key" in message
    assert "not started, because of that: after" in message
    assert {one.state for one in platform.status()} == {"stopped"}


def test_port_and_setting_are_named_when_a_stranger_has_the_port(build: Build) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(PlatformError, match=rf"port {port} \(HERALD_ONE__PORT\) is in use by"):
            build(web("one", port)).up()


def test_services_end_when_the_supervisor_is_killed(
    build: Build, free_port: Callable[[], int]
) -> None:
    lines: list[str] = []
    platform = build(web("one", free_port()), lines=lines)
    platform.up()
    psutil.Process(int(platform.supervisor.call("getPID"))).kill()
    with pytest.raises(PlatformError, match="herald up"):
        platform.restart("one")
    platform.up()  # reaps what was left, then starts anew
    assert platform.status()[0].is_healthy


def test_nothing_is_left_when_up_is_interrupted(own: Settings) -> None:
    environment = {**os.environ, "HERALD_STATE_DIR": str(own.state_dir)}
    code = """
import sys
from herald.settings import load_settings
from infra.local.platform import Platform
from infra.local.service import Service
sleeper = Service("sleeper", ["sleep", "300"], lambda: False, "nowhere")
Platform(load_settings(), services={"sleeper": sleeper}).up()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    )
    platform = Platform(own)
    deadline = time.monotonic() + 30
    while len(platform.supervisor.processes()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "interrupted: stopping everything" in said
    assert process.returncode != 0
    assert platform.supervisor.processes() == []


def test_reload_reaches_only_services_that_take_it(build: Build, tmp_path: Path) -> None:
    mark = tmp_path / "reloaded"
    code = (
        "import signal, time, pathlib, sys\n"
        "signal.signal(signal.SIGHUP, lambda *_: pathlib.Path(sys.argv[1]).touch())\n"
        "pathlib.Path(sys.argv[1] + '.ready').touch()\n"
        "while True: time.sleep(0.1)"
    )
    ready = Path(f"{mark}.ready")
    takes = Service(
        "takes", [sys.executable, "-c", code, str(mark)], ready.exists, "nowhere", reloads=True
    )
    other = Service("other", ["sleep", "60"], lambda: True, "nowhere")
    platform = build(takes, other)
    platform.up()
    assert platform.reload() == ["takes"]
    deadline = time.monotonic() + 10
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mark.exists()
    assert all(one.state == "running" for one in platform.status())
