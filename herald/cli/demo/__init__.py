"""`herald demo`: the whole platform with real and simulated events, reconciled to the last one."""

from __future__ import annotations

import json
import logging
import sys
from typing import Annotated

import typer

from herald.cli.output import fail


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    events: Annotated[int, typer.Option(min=0, help="Simulated events to produce.")] = 2_000_000,
    open_bandit: Annotated[
        int, typer.Option(min=0, help="Real Open Bandit impressions to import; 0 for none.")
    ] = 120_000,
    faults: Annotated[
        bool, typer.Option(help="Kill the landing job, the warehouse and the broker once each.")
    ] = True,
    fault_events: Annotated[
        int, typer.Option(min=1_000, help="Events produced around each kill.")
    ] = 150_000,
    dashboards: Annotated[bool, typer.Option(help="Open the dashboards in a browser.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Start everything, land real and simulated events, run the DAGs, reconcile, and stay up."""
    from rich.console import Console

    from herald.cli.demo.counts import StalledError
    from herald.cli.demo.run import Demo, Plan, logins, verdict
    from herald.cli.demo.table import print_logins, print_summary
    from herald.settings import load_settings
    from infra.local.service import PlatformError

    # the demo kills the warehouse on purpose; each lost connection would be a line on the screen
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    console = Console(stderr=as_json, soft_wrap=True)
    if not console.is_terminal:  # a log file has no width of its own
        console.width = 140
    plan = Plan(events, open_bandit, faults, fault_events, dashboards)
    run = Demo(load_settings(), plan, console)
    try:
        record = run.run()
    except (PlatformError, StalledError, RuntimeError) as error:
        fail(str(error))
    if as_json:
        sys.stdout.write(json.dumps(record, default=str) + "\n")
    else:
        print_summary(record, console)
        print_logins(logins(run.settings), console)
    if wrong := verdict(record):
        fail("the demo ran, but:\n  " + "\n  ".join(wrong))
    if not as_json:
        console.print(f"Facts: {run.path}. The platform stays up until `make down`.")
