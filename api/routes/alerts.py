"""Alerts: list, get, acknowledge, silence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Literal

from clickhouse_connect.driver.exceptions import ClickHouseError
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.security import Principal
from herald.alerts.model import Alert, Severity
from herald.alerts.rules import Rule, RuleError, load_rules
from herald.alerts.store import MAX_LISTED, NoAlertError, WarehouseStore
from herald.settings import Settings, SettingsError
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])
MAX_SILENCE_MINUTES = 30 * 24 * 60


class Desk:
    """The store of alerts behind the routes; connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._store: WarehouseStore | None = None
        try:
            self.rules: list[Rule] = load_rules(settings.alerts.rules_dir)
        except RuleError as error:
            raise SettingsError(f"rules of the alerts cannot be used: {error}") from error

    @contextmanager
    def store(self) -> Iterator[WarehouseStore]:
        """The store, for one request. Errors become answers: 404 no such alert, 503 away."""
        try:
            with self._lock:
                if self._store is None:
                    self._store = WarehouseStore(
                        connect(self._settings.warehouse, timeout_seconds=10.0)
                    )
            yield self._store
        except NoAlertError as error:
            raise HTTPException(404, str(error)) from error
        except (ClickHouseError, WarehouseDownError, OSError) as error:
            raise HTTPException(
                503, "the warehouse does not answer; try again", headers={"Retry-After": "1"}
            ) from error


class AlertPage(BaseModel):
    """Alerts, those that changed last first."""

    alerts: list[Alert]


class RuleSummary(BaseModel):
    """A rule that is watched."""

    name: str
    kind: str
    severity: Severity
    owner: str
    description: str
    runbook: str
    group_by: list[str]
    window_seconds: int
    threshold: float


class RulePage(BaseModel):
    """Every rule that is watched."""

    rules: list[RuleSummary]


class Acknowledgement(BaseModel):
    """Who takes care of it."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field("", max_length=100, description="Name shown; default: who asks.")
    comment: str = Field("", max_length=1_000)


class Silence(Acknowledgement):
    """How long nobody is told of this rule and group."""

    minutes: int = Field(ge=1, le=MAX_SILENCE_MINUTES)


class Ask(BaseModel):
    """Which alerts."""

    model_config = ConfigDict(extra="forbid")

    tenant: str = ""
    rule: str = ""
    severity: Severity | Literal[""] = ""
    status: list[Literal["firing", "acknowledged", "resolved"]] = Field(
        ["firing", "acknowledged"], description="Repeatable; default: what is open."
    )
    limit: int = Field(100, ge=1, le=MAX_LISTED)


@router.get("")
def list_alerts(ask: Annotated[Ask, Query()], _: Principal, request: Request) -> AlertPage:
    """Open alerts, or those of other states too."""
    with _desk(request).store() as store:
        found = store.find(
            statuses=ask.status, tenant=ask.tenant, rule=ask.rule, severity=ask.severity,
            limit=ask.limit,
        )  # fmt: skip
    return AlertPage(alerts=found)


@router.get("/rules")
def list_rules(_: Principal, request: Request) -> RulePage:
    """What is watched."""
    return RulePage(
        rules=[
            RuleSummary(
                name=rule.name, kind=rule.kind, severity=rule.severity, owner=rule.owner,
                description=rule.description, runbook=rule.runbook, group_by=list(rule.group_by),
                window_seconds=rule.window_ms // 1_000, threshold=rule.threshold,
            )
            for rule in _desk(request).rules
        ]
    )  # fmt: skip


@router.get("/{alert_id}")
def get_alert(alert_id: str, _: Principal, request: Request) -> Alert:
    """One alert, open or not."""
    with _desk(request).store() as store:
        return store.get(alert_id)


@router.post("/{alert_id}/acknowledge")
def acknowledge(
    alert_id: str, body: Acknowledgement, principal: Principal, request: Request
) -> Alert:
    """Take care of it. Twice is as good as once; a resolved alert stays as it is."""
    with _desk(request).store() as store:
        return store.acknowledge(alert_id, body.by or principal, body.comment)


@router.post("/{alert_id}/silence")
def silence(alert_id: str, body: Silence, principal: Principal, request: Request) -> Alert:
    """Tell nobody of its rule and group for a while, of later alerts neither. They still show."""
    with _desk(request).store() as store:
        return store.silence(
            alert_id, body.by or principal, timedelta(minutes=body.minutes), body.comment
        )


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.alerts
    return desk
