"""`herald metrics`: the catalogue, and questions from the shell."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from herald.cli.output import emit, fail
from herald.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(help="Metric definitions and their values.", no_args_is_help=True)
    group.command("list")(list_metrics)
    group.command("show")(show)
    group.command("query")(query)
    app.add_typer(group, name="metrics")


def list_metrics(as_json: AsJson = False) -> None:
    """Every metric with its formula."""
    from herald.metrics.catalogue import entries

    found = [e.model_dump() for e in entries()]
    if not as_json:
        found = [
            {
                "metric": e["name"],
                "unit": e["unit"],
                "audiences": ", ".join(e["audiences"]),
                # square brackets would be styles to the table
                "formula": e["formula"].replace("[", "\\["),
            }
            for e in found
        ]
    emit(found, as_json=as_json)


def show(metric: str, as_json: AsJson = False) -> None:
    """Everything about one metric, with the SQL it becomes."""
    from herald.metrics.catalogue import entry
    from herald.metrics.registry import resolve

    found, resolved = entry(metric), resolve(metric)
    if found is None or resolved is None:
        fail(_unknown(metric), code=2)
    record = found.model_dump() | {"sql": resolved.sql()}
    if not as_json:
        record = {k: str(v).replace("[", "\\[") for k, v in record.items()}
    emit(record, as_json=as_json)


def query(
    metrics: Annotated[list[str], typer.Argument(help="One or more metrics.")],
    tenant: Annotated[str, typer.Option(help="Whose data.")],
    start: Annotated[str, typer.Option("--from", help="Date or time; default 30 days ago.")] = "",
    end: Annotated[str, typer.Option("--to", help="Date or time; default tomorrow.")] = "",
    by: Annotated[list[str] | None, typer.Option(help="Dimension; repeatable.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="dimension:value,value; repeatable.")
    ] = None,
    grain: Annotated[str, typer.Option(help="none, hour, day or week.")] = "none",
    time_zone: Annotated[str, typer.Option(help="IANA name.")] = "UTC",
    scope: Annotated[str, typer.Option(help="sent or event (in range).")] = "sent",
    audience: Annotated[str, typer.Option(help="all, human or machine.")] = "all",
    order: Annotated[list[str] | None, typer.Option(help="Column; - first descends.")] = None,
    limit: Annotated[int | None, typer.Option(help="Rows to show.")] = None,
    compare: Annotated[bool, typer.Option(help="With the period before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read metrics from the marts."""
    from pydantic import ValidationError

    from herald.engine.engine import AnalyticsEngine
    from herald.engine.errors import EngineError, InvalidQueryError
    from herald.engine.query import Filter, Query

    today = datetime.now(UTC).date()
    try:
        asked = Query.model_validate(
            {
                "tenant_id": tenant,
                "metrics": metrics,
                "dimensions": by or [],
                "filters": [Filter.parse(text) for text in where or []],
                "start": start or (today - timedelta(days=30)).isoformat(),
                "end": end or (today + timedelta(days=1)).isoformat(),
                "grain": grain,
                "time_zone": time_zone,
                "scope": scope,
                "audience": audience,
                "order": order or [],
                "limit": limit,
                "compare": "previous" if compare else "none",
            }
        )
        asked.check()
    except ValidationError as error:
        fail(str(InvalidQueryError.from_validation(error)), code=2)
    except InvalidQueryError as error:
        fail(str(error), code=2)
    engine = AnalyticsEngine(load_settings(), surface="cli")
    try:
        answer = engine.answer(asked, principal="operator")
    except EngineError as error:
        fail(str(error))
    finally:
        engine.close()
    if as_json:
        sys.stdout.write(answer.model_dump_json() + "\n")
        return
    emit([_shown(row) for row in answer.rows], as_json=False)
    more = "; more rows: raise --limit" if answer.next_cursor else ""
    sys.stdout.write(f"{answer.scope_label}, data as of {answer.data_as_of}{more}\n")


def bench_api(
    requests: Annotated[int, typer.Option(min=100, help="Requests to send.")] = 4_000,
    as_json: AsJson = False,
) -> None:
    """Ask the running API dashboard questions; figure api_p99_ms."""
    from herald.bench.api import ApiBenchError, run_api_bench
    from herald.bench.rows import save
    from herald.records import now

    settings, started = load_settings(), now()
    try:
        found = run_api_bench(settings, requests)
    except ApiBenchError as error:
        fail(str(error))
    path = settings.state_dir / "bench.json"
    emit(save(path, [found], command="herald bench api", started_at=started), as_json=as_json)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: "n/a" if value is None else f"{value:.6g}" if isinstance(value, float) else value
        for name, value in row.items()
    }


def _unknown(metric: str) -> str:
    from herald.engine.query import unknown_metric

    return unknown_metric("metric", metric).message
