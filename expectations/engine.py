"""Runs suites with Great Expectations. Only this module imports it (warehouse environment)."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from clickhouse_connect.driver.client import Client

from expectations.model import Check, Outcome, Suite
from herald.settings import Settings

_SITE = "herald"
_SAMPLES = 3
"""Violating rows quoted in the reason."""


def data_docs_dir(settings: Settings) -> Path:
    """Where the pages are; open `index.html`."""
    return settings.state_dir / "data_docs"


def validations_dir(settings: Settings) -> Path:
    """Results as Great Expectations stores them; the index of the pages lists these."""
    return settings.state_dir / "quality" / "validations"


def run_with_great_expectations(
    suites: Sequence[Suite], *, run_id: str, settings: Settings, client: Client
) -> list[Outcome]:
    """Validate the suites in one checkpoint, build their pages, return every outcome.

    Args:
        suites: what to check, all in one process: the library takes seconds to start.
        run_id: name of the run in results and pages.
        settings: where the warehouse and the state folder are.
        client: writer's client, for the rows quoted in a failure's reason.
    """
    # the library prints a hint about a placeholder that `Suite` has filled in already
    with redirect_stdout(StringIO()):
        result = _validate(suites, run_id, settings)
    outcomes: list[Outcome] = []
    by_name = {suite.name: suite for suite in suites}
    for validation in result.run_results.values():
        suite = by_name[validation.suite_name]
        by_key = {(c.name, c.column): c for c in suite.checks}
        for item in validation.results:
            meta = item.expectation_config.meta
            outcomes.append(_outcome(suite, by_key[meta["name"], meta["column"]], item, client))
    return outcomes


def _validate(suites: Sequence[Suite], run_id: str, settings: Settings) -> Any:
    # read at import, so it must be set before
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    _learn_columns_from_one_row({suite.batch.strip() for suite in suites})
    context = gx.get_context(project_config=_project_config(settings), mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_sql(
        name="warehouse", connection_string=_url(settings), create_temp_table=False
    )
    definitions = []
    for suite in suites:
        asset = source.add_query_asset(name=suite.table, query=suite.batch)
        batch = asset.add_batch_definition(name=suite.name)
        expected = context.suites.add(
            gx.ExpectationSuite(
                name=suite.name,
                expectations=[_expectation(gx, suite, check) for check in suite.checks],
                meta={"purpose": suite.purpose},
            )
        )
        definitions.append(
            context.validation_definitions.add(
                gx.ValidationDefinition(name=suite.name, data=batch, suite=expected)
            )
        )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name="gate",
            validation_definitions=definitions,
            actions=[gx.checkpoint.UpdateDataDocsAction(name="pages", site_names=[_SITE])],
        )
    )
    return checkpoint.run(run_id=gx.RunIdentifier(run_name=run_id, run_time=datetime.now(UTC)))


def _learn_columns_from_one_row(batches: Collection[str]) -> None:
    """Keep Great Expectations from fetching every row of a batch to learn its columns.

    It runs the query of a query asset as it is, and looks at the names of the result: 90 seconds
    for 2.5 million events. Checks use the query inside another one and are not touched.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def shorten(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> tuple[str, Any]:
        return one_row(statement, batches), parameters

    event.listen(Engine, "before_cursor_execute", shorten, retval=True)


def one_row(statement: str, batches: Collection[str]) -> str:
    """The statement with `limit 1` when it is one of the batches itself, else as it was."""
    text = statement.strip()
    for batch in batches:
        rest = text.removeprefix(batch)
        if len(rest) < len(text) and rest.split()[:1] in ([], ["FORMAT"]):
            return f"{batch} limit 1{rest}"
    return statement


def _url(settings: Settings) -> str:
    warehouse = settings.warehouse
    scheme = "clickhouse+https" if warehouse.secure else "clickhouse+http"
    password = quote_plus(warehouse.password.get_secret_value())
    return f"{scheme}://{warehouse.user}:{password}@{warehouse.host}:{warehouse.port}/default"


def _project_config(settings: Settings) -> Any:
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
    )

    defaults = InMemoryStoreBackendDefaults()
    # results are kept as files, so that the index lists earlier runs too; nothing else is written,
    # in particular no connection string
    defaults.stores[defaults.validation_results_store_name]["store_backend"] = {
        "class_name": "TupleFilesystemStoreBackend",
        "base_directory": str(validations_dir(settings)),
    }
    return DataContextConfig(
        store_backend_defaults=defaults,
        analytics_enabled=False,
        data_docs_sites={
            _SITE: {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(data_docs_dir(settings)),
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
        },
    )


def _expectation(gx: Any, suite: Suite, check: Check) -> Any:
    severity = "critical" if check.severity == "error" else "warning"
    meta = {"name": check.name, "column": check.column}
    notes = f"{check.severity}: {check.name}, expected {check.expected}"
    if check.kind == "native":
        kind = getattr(gx.expectations, check.gx_class)
        return kind(**check.arguments, severity=severity, meta=meta, notes=notes)
    return gx.expectations.UnexpectedRowsExpectation(
        unexpected_rows_query=suite.resolved_sql(check).replace("{", "{{").replace("}", "}}"),
        description=f"{check.name}: {check.expected}",
        severity=severity,
        meta=meta,
        notes=notes,
    )


def _outcome(suite: Suite, check: Check, item: Any, client: Client) -> Outcome:
    observed, expected, message = "", check.expected, ""
    raised = _exception(item)
    if raised:
        observed, message = "not checked", raised
    elif check.kind == "measured":
        observed, expected, message = _measurement(suite, check, client)
    elif check.kind == "rows":
        found = int(item.result.get("observed_value") or 0)
        observed = "no violation" if item.success else f"{found} violations"
        message = "" if item.success else _sample(suite, check, client)
    else:
        observed, message = _native_observed(item)
    return Outcome(
        suite=suite.name,
        layer=suite.layer,
        table=suite.table,
        expectation=check.name,
        column=check.column,
        severity=check.severity,
        success=bool(item.success) and not raised,
        observed=observed,
        expected=expected,
        message=message,
    )


def _exception(item: Any) -> str:
    """First line of what went wrong while checking, '' if nothing did."""
    info = item.exception_info or {}
    # either {raised_exception, ...} or one of these for each metric
    raised = [info] if "raised_exception" in info else list(info.values())
    texts = [str(i.get("exception_message")) for i in raised if i.get("raised_exception")]
    return texts[0].strip().splitlines()[0][:500] if texts else ""


def _measurement(suite: Suite, check: Check, client: Client) -> tuple[str, str, str]:
    sql = suite.measurement_sql(check)
    row = client.query(f"select observed, expected, note from ({sql})").first_row
    return str(row[0]), str(row[1]), str(row[2])


def _sample(suite: Suite, check: Check, client: Client) -> str:
    found = client.query(f"select * from ({suite.resolved_sql(check)}) limit {_SAMPLES}")
    shown = [
        ", ".join(f"{n}={v}" for n, v in zip(found.column_names, row, strict=True))
        for row in found.result_rows
    ]
    return "for example " + "; ".join(shown)


def _native_observed(item: Any) -> tuple[str, str]:
    result = item.result
    if "unexpected_count" not in result:
        return str(result.get("observed_value", "")), ""
    count, total = result["unexpected_count"], result.get("element_count", 0)
    seen = [str(value)[:100] for value in result.get("partial_unexpected_list") or []][:_SAMPLES]
    return f"{count} of {total} values", f"for example {', '.join(seen)}" if seen else ""
