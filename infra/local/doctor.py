"""What `herald doctor` looks at: each check says what it found and how to mend it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from herald.settings import Settings, SettingsError, load_settings, secrets_file
from infra import bootstrap
from infra.local.platform import Platform
from infra.local.ports import is_listening, listener
from infra.local.service import ServiceStatus

DISK_GIB = 10
MEMORY_GIB = 8


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        name: what was looked at.
        is_ok: whether it is as it must be.
        found: what was found.
        remedy: what to do when it is not.
    """

    name: str
    is_ok: bool
    found: str
    remedy: str


def examine(root: Path, var: Path) -> list[Finding]:
    """Every check, in the order in which to mend."""
    findings = [
        *_system(),
        *_installed(root, var),
        _disk(var),
        _memory(),
    ]
    try:
        settings = load_settings()
    except SettingsError as error:
        findings.append(Finding("settings", False, str(error), "correct the values named"))
        return findings
    findings.append(Finding("settings", True, f"environment {settings.environment}", ""))
    findings.append(_secrets(settings))
    findings += services(Platform(settings))
    return findings


def _system() -> Iterator[Finding]:
    java = ""
    if shutil.which("java"):
        answer = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
        java = (answer.stderr or answer.stdout).splitlines()[0]
    yield Finding(
        "java 17+",
        bootstrap.has_java(),
        java or "not found",
        f"apt-get install {bootstrap.JAVA_PACKAGE} (or `make setup` as root)",
    )
    browser = next(filter(None, map(shutil.which, bootstrap.CHROMIUM_NAMES)), None)
    yield Finding(
        "chromium",
        browser is not None,
        browser or "not found",
        f"apt-get install {bootstrap.CHROMIUM_PACKAGE} (or `make setup` as root)",
    )


def _installed(root: Path, var: Path) -> Iterator[Finding]:
    setup = bootstrap.Bootstrap(root, var)
    for name in bootstrap.ENVIRONMENTS:
        lock = (root / "infra" / "requirements" / f"{name}.txt").read_text()
        is_there = (var / "envs" / name / "bin" / "python").is_file()
        is_current = setup.is_done(f"env-{name}", bootstrap.digest(lock, bootstrap.PYTHON))
        found = "as its lock" if is_current else "other than its lock" if is_there else "missing"
        yield Finding(f"environment {name}", is_there and is_current, found, "make setup")
    for name in bootstrap.JAR_SETS:
        jars = bootstrap.read_jar_lock((root / "infra" / "jars" / f"{name}.lock").read_text())
        wrong = bootstrap.missing_jars(var / "jars" / name, jars)
        yield Finding(
            f"jars of {name}",
            not wrong,
            "; ".join(wrong[:3]) or f"{len(jars)}, each as its sha256",
            f"delete {var / 'stamps' / f'jars-{name}'} and run `make setup`",
        )


def _disk(var: Path) -> Finding:
    free = shutil.disk_usage(var if var.exists() else var.parent).free / 1024**3
    return Finding(
        "disk", free >= DISK_GIB, f"{free:.0f} GiB free", f"free {DISK_GIB} GiB, or `make clean`"
    )


def _memory() -> Finding:
    available = psutil.virtual_memory().available / 1024**3
    swap = "stop other programs; the whole platform takes about 7 GiB"
    return Finding("memory", available >= MEMORY_GIB, f"{available:.0f} GiB available", swap)


def _secrets(settings: Settings) -> Finding:
    path = secrets_file(settings.state_dir)
    if not path.is_file():
        return Finding("secrets", True, "generated at the first `herald up`", "")
    mode = path.stat().st_mode & 0o777
    return Finding("secrets", mode == 0o600, f"{path} has mode {mode:03o}", f"chmod 600 {path}")


def services(platform: Platform) -> Iterator[Finding]:
    """Services that should run but are unwell, and ports that strangers hold."""
    for one in platform.status():
        yield _service(platform, one)


def _service(platform: Platform, one: ServiceStatus) -> Finding:
    if one.state == "stopped":
        taken = [
            f"port {port} ({setting}) is in use by {listener(port)}"
            for setting, port in platform.services[one.name].ports.items()
            if is_listening("127.0.0.1", port)
        ]
        remedy = "stop that program, or set another port"
        return Finding(one.name, not taken, "; ".join(taken) or "stopped", remedy)
    found = f"{one.state}, {'healthy' if one.is_healthy else 'not healthy'}"
    remedy = f"herald logs {one.name}, then herald restart {one.name}"
    return Finding(one.name, one.is_healthy, found, remedy)
