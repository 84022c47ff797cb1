"""Assembles the command line from the modules of this package."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules

import typer

import herald.cli
from herald.cli.output import fail
from herald.settings import SettingsError
from herald.warehouse.errors import WarehouseDownError

NOT_COMMANDS = {"main", "output"}


def build_app() -> typer.Typer:
    """The Typer application with the commands of every module of `herald.cli`."""
    app = typer.Typer(
        name="herald",
        help="Herald: notification events in, trusted numbers out.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module in sorted(m.name for m in iter_modules(herald.cli.__path__)):
        if module not in NOT_COMMANDS:
            import_module(f"herald.cli.{module}").register(app)
    return app


def run() -> None:
    """Entry point. Expected failures end in one clear message and exit code 2."""
    try:
        build_app()()
    except (SettingsError, WarehouseDownError) as error:
        fail(str(error), code=2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
