"""Runs quality suites and gates: `python -m expectations.run SUITE... | --layer raw`.

For the warehouse environment. Exit code 0: the gate is open; 1: it is closed, with the reasons on
stderr; 2: it could not be run.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from expectations.checkpoints import UnknownSuiteError, select_suites
from expectations.engine import data_docs_dir, run_with_great_expectations
from expectations.model import GateFailedError, Outcome
from expectations.results import store
from herald.settings import Settings, SettingsError, load_settings
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError


def run_suites(
    settings: Settings, names: list[str], layers: list[str], run_id: str
) -> list[Outcome]:
    """Run the suites chosen, keep their results, return them; raises nothing for a failed check.

    Raises:
        UnknownSuiteError: a name or layer that does not exist.
        WarehouseDownError: the warehouse does not answer.
    """
    suites = select_suites(settings, names, layers)
    client = connect(settings.warehouse, "writer")
    try:
        outcomes = run_with_great_expectations(
            suites, run_id=run_id, settings=settings, client=client
        )
        store(client, run_id, outcomes)
    finally:
        client.close()
    return outcomes


def run_suite(name: str, run_id: str) -> None:
    """Run one suite as a gate, for an Airflow task.

    Raises:
        GateFailedError: an error-severity expectation failed.
    """
    gate([name], [], run_id)


def run_layer(layer: str, run_id: str) -> None:
    """Run every suite of a layer as one gate, for an Airflow task.

    Raises:
        GateFailedError: an error-severity expectation failed.
    """
    gate([], [layer], run_id)


def gate(names: list[str], layers: list[str], run_id: str) -> list[Outcome]:
    """Run suites, log each failure, raise GateFailedError when one of them is an error."""
    started = time.monotonic()
    settings = load_settings()
    outcomes = run_suites(settings, names, layers, run_id)
    for outcome in outcomes:
        if not outcome.success or "not estimable" in outcome.message:
            _log(
                outcome.reason
                if not outcome.success
                else f"NOTE {outcome.suite}: {outcome.expectation}: {outcome.message}"
            )
    failed = sum(not outcome.success for outcome in outcomes)
    _log(
        f"{len(outcomes) - failed} of {len(outcomes)} expectations passed in "
        f"{time.monotonic() - started:.1f} s; pages: {data_docs_dir(settings) / 'index.html'}"
    )
    if any(outcome.stops for outcome in outcomes):
        raise GateFailedError(outcomes)
    return outcomes


def _log(text: str) -> None:
    sys.stderr.write(f"quality: {text}\n")
    sys.stderr.flush()


def _summary(run_id: str, outcomes: list[Outcome]) -> dict[str, Any]:
    suites: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        counts = suites.setdefault(outcome.suite, {"passed": 0, "failed": 0})
        counts["passed" if outcome.success else "failed"] += 1
    return {
        "run_id": run_id,
        "passed": sum(o.success for o in outcomes),
        "failed": sum(not o.success for o in outcomes),
        "is_open": not any(o.stops for o in outcomes),
        "suites": suites,
        "outcomes": [asdict(o) for o in outcomes],
    }


def main(
    suites: Annotated[list[str] | None, typer.Argument(help="Suites, e.g. raw__events.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="raw, staging or marts.")] = None,
    run_id: Annotated[str, typer.Option(help="Name of the run in results and pages.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON.")] = False,
) -> None:
    """Check suites or layers; all of them when none is named."""
    name = run_id or f"manual__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    try:
        outcomes = gate(suites or [], layer or [], name)
    except GateFailedError as error:
        # the reasons are logged; a scheduler shows the last line, so it names what failed
        names = ", ".join(f"{o.suite}.{o.expectation}({o.column})" for o in error.failed)
        _log(f"gate closed by {len(error.failed)} of {len(error.outcomes)} expectations: {names}")
        outcomes, code = error.outcomes, 1
    except (UnknownSuiteError, SettingsError, WarehouseDownError) as error:
        _log(str(error))
        raise typer.Exit(2) from error
    else:
        code = 0
    if as_json:
        sys.stdout.write(json.dumps(_summary(name, outcomes)) + "\n")
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
