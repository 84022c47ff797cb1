"""`python -m api`: the service under uvicorn, on the host and port of the settings."""

from __future__ import annotations

import logging
import sys

import uvicorn

from api.app import create_app
from herald.settings import SettingsError, load_settings


def main() -> int:
    """Serve until told to stop. 2 when the settings cannot be used."""
    try:
        settings = load_settings()
        # built once here so that wrong settings end in one message, before any worker starts
        create_app(settings)
    except SettingsError as error:
        sys.stderr.write(f"herald api: {error}\n")
        return 2
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(name)s %(message)s")
    uvicorn.run(
        "api.app:create_app",
        factory=True,
        host=settings.api.host,
        port=settings.api.port,
        workers=settings.api.workers,
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=10,
        # compressing a message again for each of a thousand clients would take half a core
        ws_per_message_deflate=False,
        ws_max_size=65_536,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
