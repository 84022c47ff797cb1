"""Start the warehouse server: `python -m infra.local.clickhouse_server`."""

from __future__ import annotations

import sys

from herald.settings import SettingsError, load_settings
from infra.local.clickhouse_server.binary import run
from infra.local.clickhouse_server.server import serve


def main() -> int:
    """Serve until SIGTERM; 2 when the settings cannot be used."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if settings.warehouse.engine == "clickhouse":
        return run(settings)
    if settings.warehouse.engine == "remote":
        sys.stderr.write("HERALD_WAREHOUSE__ENGINE=remote: the warehouse is run elsewhere\n")
        return 2
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
