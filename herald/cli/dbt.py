"""`herald dbt ...`: dbt with the project, the profile and the warehouse of the settings."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command; what follows it goes to dbt as it is."""
    app.command(
        "dbt",
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "help_option_names": [],
        },
        add_help_option=False,
    )(dbt_command)


def dbt_command(context: typer.Context) -> None:
    """Run dbt on the warehouse: `herald dbt build`, `herald dbt --help`."""
    from herald.cli.output import fail
    from herald.settings import load_settings
    from herald.warehouse.dbt import DbtMissingError, run_dbt

    try:
        finished = run_dbt(load_settings(), context.args)
    except DbtMissingError as error:
        fail(str(error), code=2)
    raise typer.Exit(finished.returncode)
