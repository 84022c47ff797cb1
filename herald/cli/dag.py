"""`herald dag`: start and follow DAG runs from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from herald.cli.output import emit, fail

if TYPE_CHECKING:
    from herald.airflow_client import AirflowClient, DagRun, TaskState

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DagId = Annotated[str, typer.Argument(help="Such as marts__build__hourly.")]
Timeout = Annotated[float, typer.Option(help="Longest wait, in seconds.")]


def register(app: typer.Typer) -> None:
    """Add `herald dag`."""
    group = typer.Typer(help="Start and follow DAG runs.", no_args_is_help=True)
    group.command("trigger")(trigger_command)
    group.command("wait")(wait_command)
    group.command("runs")(runs_command)
    app.add_typer(group, name="dag")


def trigger_command(
    dag_id: DagId,
    conf: Annotated[str, typer.Option(help="Params of the run, as a JSON object.")] = "{}",
    run_id: Annotated[str, typer.Option(help="Name of the run; made up if left out.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait; exit code 1 if it fails.")] = False,
    timeout: Timeout = 900.0,
    as_json: Json = False,
) -> None:
    """Start a run of a DAG."""
    params = _object(conf)
    with _client() as client:
        run = _guarded(lambda: client.trigger(dag_id, conf=params, run_id=run_id or None))
        if wait:
            _finish(client, run, timeout, as_json)
        else:
            emit(_row(run), as_json=as_json)


def wait_command(
    dag_id: DagId,
    run_id: Annotated[str, typer.Argument(help="As `herald dag trigger` printed it.")],
    timeout: Timeout = 900.0,
    as_json: Json = False,
) -> None:
    """Wait until a run is over; exit code 1 if it failed, with the reason."""
    with _client() as client:
        run = _guarded(lambda: client.run(dag_id, run_id))
        _finish(client, run, timeout, as_json)


def runs_command(
    dag_id: Annotated[str, typer.Argument(help="Left out: runs of all DAGs.")] = "~",
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """List the latest runs, newest first."""
    with _client() as client:
        runs = _guarded(lambda: client.runs(dag_id, limit=limit))
        emit([_row(run) for run in runs], as_json=as_json)


def _client() -> AirflowClient:
    from herald.airflow_client import AirflowClient
    from herald.settings import load_settings

    return AirflowClient(load_settings().airflow)


def _guarded(call: Any) -> Any:
    from herald.airflow_client import AirflowClientError

    try:
        return call()
    except AirflowClientError as error:
        fail(str(error), code=2)


def _finish(client: AirflowClient, run: DagRun, timeout: float, as_json: bool) -> None:
    def show(now: DagRun, tasks: list[TaskState]) -> None:
        done = ", ".join(f"{t.task_id} {t.state}" for t in tasks if t.state)
        typer.echo(f"{now.dag_id} {now.state}: {done or 'nothing started'}", err=True)

    over = _guarded(
        lambda: client.wait(run.dag_id, run.run_id, timeout_seconds=timeout, progress=show)
    )
    if over.state != "success":
        fail(_guarded(lambda: client.explain_failure(over)))
    emit(_row(over), as_json=as_json)


def _row(run: DagRun) -> dict[str, Any]:
    return {
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "state": run.state,
        "seconds": run.seconds,
    }


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        fail(f"--conf {text!r} is not JSON: {error}", code=2)
    if not isinstance(value, dict):
        fail(f"--conf {text!r} must be a JSON object, such as '{{\"dry_run\": true}}'", code=2)
    return value
