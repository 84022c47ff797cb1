"""`herald alerts`: what is wrong now, who takes care of it, and how good the rules are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from herald.cli.output import emit, fail

if TYPE_CHECKING:
    from herald.alerts.model import Alert
    from herald.alerts.store import WarehouseStore

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AlertId = Annotated[str, typer.Argument(help="As `herald alerts list` shows it.")]
By = Annotated[str, typer.Option(help="Name shown; default: your login.")]
Comment = Annotated[str, typer.Option(help="Why.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    alerts = typer.Typer(help="Alerts and their rules.", no_args_is_help=True)
    alerts.command("list")(list_alerts)
    alerts.command("ack")(acknowledge)
    alerts.command("silence")(silence)
    alerts.command("resolve")(resolve)
    alerts.command("test")(try_destinations)
    alerts.command("rules")(rules)
    alerts.command("evaluate")(evaluate)
    app.add_typer(alerts, name="alerts")


def list_alerts(
    tenant: Annotated[str, typer.Option(help="Only of this tenant.")] = "",
    rule: Annotated[str, typer.Option(help="Only of this rule.")] = "",
    all_states: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: Json = False,
) -> None:
    """Show open alerts, those that changed last first."""
    statuses = () if all_states else ("firing", "acknowledged")
    with _store() as store:
        found = store.find(statuses=statuses, tenant=tenant, rule=rule, limit=limit)
    emit([a.model_dump(mode="json") if as_json else _row(a) for a in found], as_json=as_json)


def acknowledge(
    alert_id: AlertId, by: By = "", comment: Comment = "", as_json: Json = False
) -> None:
    """Say that you take care of it."""
    with _store() as store:
        alert = store.acknowledge(alert_id, by or _login(), comment)
    emit(alert.model_dump(mode="json") if as_json else _row(alert), as_json=as_json)


def resolve(alert_id: AlertId, as_json: Json = False) -> None:
    """End an alert by hand, as for a rule that is gone."""
    with _store() as store:
        alert = store.resolve(alert_id)
    emit(alert.model_dump(mode="json") if as_json else _row(alert), as_json=as_json)


def silence(
    alert_id: AlertId,
    length: Annotated[str, typer.Option("--for", help="Such as 30m, 4h, 7d.")] = "1h",
    by: By = "",
    comment: Comment = "",
    as_json: Json = False,
) -> None:
    """Tell nobody of its rule and group for a while."""
    from pydantic import TypeAdapter, ValidationError

    from herald.alerts.rules import Duration

    try:
        lasts = TypeAdapter(Duration).validate_python(length)
    except ValidationError as error:
        fail(f"--for {length!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}", code=2)
    with _store() as store:
        alert = store.silence(alert_id, by or _login(), lasts, comment)
    emit(alert.model_dump(mode="json") if as_json else _row(alert), as_json=as_json)


def try_destinations(as_json: Json = False) -> None:
    """Send a test alert to every destination of the settings; fails when one does not take it."""
    from herald.alerts.destinations import DeliveryError, destinations
    from herald.alerts.notice import Notice
    from herald.alerts.sample import sample
    from herald.settings import load_settings

    settings = load_settings()
    notice = Notice((sample(),), settings.alerts.runbook_url)
    rows = []
    for destination in destinations(settings):
        try:
            rows.append({"destination": destination.name, "outcome": destination.send(notice)})
        except DeliveryError as error:
            rows.append({"destination": destination.name, "outcome": f"failed: {error}"})
    emit(rows, as_json=as_json)
    if any(row["outcome"].startswith("failed") for row in rows):
        raise typer.Exit(1)


def rules(
    folder: Annotated[Path | None, typer.Option(help="Folder of YAML files to check.")] = None,
    as_json: Json = False,
) -> None:
    """Show the rules, or say what is wrong with them."""
    from herald.alerts.rules import RuleError, load_rules
    from herald.settings import load_settings

    try:
        found = load_rules(folder or load_settings().alerts.rules_dir)
    except RuleError as error:
        fail(str(error))
    emit(
        [
            {"name": r.name, "kind": r.kind, "severity": r.severity, "owner": r.owner,
             "window": str(r.window), "threshold": r.threshold, "group_by": ", ".join(r.group_by)}
            for r in found
        ],
        as_json=as_json,
    )  # fmt: skip


def evaluate(
    seeds: Annotated[str, typer.Option(help="Comma-separated; not those it was tuned on.")] = "",
    events_per_second: Annotated[float, typer.Option(min=0.05, help="Of the simulation.")] = 5.0,
    weeks: Annotated[int, typer.Option(min=2, max=8, help="History before the week.")] = 4,
    as_json: Json = False,
) -> None:
    """Measure noise on a clean simulated week and recall on planted incidents."""
    from herald.alerts.evaluate import DEFAULT_SEEDS, run_evaluation, table
    from herald.records import now, write_record
    from herald.settings import load_settings

    settings = load_settings()
    chosen = [int(s) for s in seeds.split(",") if s.strip()] or list(DEFAULT_SEEDS)
    started = now()
    record = run_evaluation(settings.alerts.rules_dir, chosen, events_per_second, weeks)
    path = settings.state_dir / "alerts.json"
    write_record(path, command="herald alerts evaluate", started_at=started, **record)
    emit(record if as_json else table(record), as_json=as_json)


@contextmanager
def _store() -> Iterator[WarehouseStore]:
    from herald.alerts.store import NoAlertError, WarehouseStore
    from herald.settings import load_settings
    from herald.warehouse.client import connect

    client = connect(load_settings().warehouse)
    try:
        yield WarehouseStore(client)
    except NoAlertError as error:
        fail(str(error))
    finally:
        client.close()


def _row(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id[:12], "severity": alert.severity, "status": alert.status,
        "rule": alert.rule, "opened": f"{alert.opened_at:%Y-%m-%d %H:%M}", "what": alert.summary,
    }  # fmt: skip


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no login name in this container
        return "operator"
