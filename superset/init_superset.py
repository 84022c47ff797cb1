"""Brings Superset's metadata up to date: database, schema, permissions, roles, administrator.

Run with the python of the `superset` environment and SUPERSET_CONFIG_PATH set to
`superset/superset_config.py`. One process, because each start of Superset's command line costs
ten seconds. A second run finds its stamp in the metadata and ends in a fraction of a second.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg2
import yaml
from psycopg2 import sql

from herald.settings import Settings, load_settings

HERE = Path(__file__).resolve().parent


def connect(settings: Settings, database: str) -> Any:
    """A connection to one database of the metadata server, in autocommit."""
    connection = psycopg2.connect(
        host=settings.postgres.host,
        port=settings.postgres.port,
        user=settings.postgres.user,
        password=settings.postgres.password.get_secret_value() or None,
        dbname=database,
        connect_timeout=10,
    )
    connection.autocommit = True
    return connection


def create_database(settings: Settings) -> None:
    """Create the metadata database `superset` where it is missing."""
    with closing(connect(settings, "postgres")) as connection, connection.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = 'superset'")
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("create database {}").format(sql.Identifier("superset")))


def stamp(settings: Settings) -> str:
    """What the present state depends on: version, roles, this file, the administrator."""
    parts = [
        version("apache-superset"),
        Path(__file__).read_text(encoding="utf-8"),
        (HERE / "roles.yaml").read_text(encoding="utf-8"),
        settings.superset.user,
        settings.superset.password.get_secret_value(),
        settings.superset.secret_key.get_secret_value(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_stamp(settings: Settings) -> str:
    """The stamp of the last completed run, or an empty string."""
    with closing(connect(settings, "superset")) as connection, connection.cursor() as cursor:
        cursor.execute("create table if not exists herald_stamp (value text not null)")
        cursor.execute("select value from herald_stamp")
        row = cursor.fetchone()
        return str(row[0]) if row else ""


def write_stamp(settings: Settings, value: str) -> None:
    """Record a completed run."""
    with closing(connect(settings, "superset")) as connection, connection.cursor() as cursor:
        cursor.execute("delete from herald_stamp")
        cursor.execute("insert into herald_stamp values (%s)", (value,))


def make_roles(security: Any, roles: dict[str, dict[str, Any]]) -> None:
    """Give each role of roles.yaml the permissions of the built-in roles it names."""
    for name, spec in roles.items():
        # merge keeps the grants of data that the import of the assets added
        security.copy_role(spec["like"], name, merge=True)
        role = security.find_role(name)
        for other in spec.get("with", []):
            for permission in security.find_role(other).permissions:
                if permission not in role.permissions:
                    security.add_permission_role(role, permission)


def make_admin(security: Any, settings: Settings) -> None:
    """Create the administrator, or give the existing one the password of the settings."""
    name, password = settings.superset.user, settings.superset.password.get_secret_value()
    if not password:
        raise SystemExit("HERALD_SUPERSET__PASSWORD is empty: the administrator needs a password")
    user = security.find_user(username=name)
    if user is None:
        admin = security.find_role("Admin")
        if not security.add_user(name, "Herald", "Admin", f"{name}@localhost", admin, password):
            raise SystemExit(f"Superset refused to create the administrator {name!r}")
    else:
        security.reset_password(user.id, password)


def main() -> None:
    """Do what is not done yet."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    os.environ.setdefault("SUPERSET_CONFIG_PATH", str(HERE / "superset_config.py"))
    settings = load_settings()
    create_database(settings)
    wanted = stamp(settings)
    if read_stamp(settings) == wanted:
        print("metadata is up to date")
        return
    # Superset takes seconds to import: only when there is work for it
    from flask_migrate import upgrade
    from superset.app import create_app

    app = create_app()
    with app.app_context():
        from superset import appbuilder, db, security_manager

        migrations = Path(sys.modules["superset"].__file__ or "").parent / "migrations"
        upgrade(directory=str(migrations))
        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
        make_roles(
            security_manager,
            yaml.safe_load((HERE / "roles.yaml").read_text(encoding="utf-8")),
        )
        make_admin(security_manager, settings)
        db.session.commit()
    write_stamp(settings, wanted)
    # alembic reconfigured logging
    print("metadata is ready")


if __name__ == "__main__":
    main()
