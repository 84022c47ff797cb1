"""An alert, and what is told about it; its JSON is the same in API, topic and webhook."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

Status = Literal["firing", "acknowledged", "resolved"]
Severity = Literal["info", "warning", "critical"]
TransitionName = Literal["opened", "resolved", "acknowledged", "silenced", "test"]
Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Rule, tenant and labels: what an alert is about; at most one of each is open."""


class Alert(BaseModel):
    """The state of one alert; times in UTC.

    window_start, window_end: from the opening window's start to the end of the last window that
    was wrong. value, limit and usual level are those of the last wrong window.
    """

    model_config = ConfigDict(frozen=True)

    alert_id: str
    tenant_id: str
    rule: str
    kind: str
    severity: Severity
    status: Status
    group_key: dict[str, str]
    value: float
    threshold: float
    baseline: float | None
    events: int
    window_start: AwareDatetime
    window_end: AwareDatetime
    opened_at: AwareDatetime
    updated_at: AwareDatetime
    resolved_at: AwareDatetime | None = None
    summary: str
    runbook: str
    owner: str
    acknowledged_by: str = ""
    silenced_until: AwareDatetime | None = None
    version: int = 0

    @property
    def key(self) -> Key:
        """What it is about."""
        return key_of(self.rule, self.tenant_id, self.group_key)

    @property
    def is_open(self) -> bool:
        """Firing or acknowledged."""
        return self.status != "resolved"


class Transition(BaseModel):
    """Something to tell: at most one of each name for an alert."""

    model_config = ConfigDict(frozen=True)

    transition: TransitionName
    happened_at: AwareDatetime
    alert: Alert

    @property
    def idempotency_key(self) -> str:
        """The same at every try, so that a receiver can drop what it has."""
        return f"{self.alert.alert_id}.{self.transition}"


def key_of(rule: str, tenant_id: str, labels: Mapping[str, str]) -> Key:
    """What an alert is about."""
    return rule, tenant_id, tuple(sorted(labels.items()))


def alert_id(rule: str, tenant_id: str, labels: Mapping[str, str], opening_ms: int) -> str:
    """32 hex digits of tenant, rule, labels and the end of the window that was wrong first."""
    text = "\x1f".join(
        [tenant_id, rule, *(f"{k}={v}" for k, v in sorted(labels.items())), str(opening_ms)]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def instant(ms: int) -> datetime:
    """UTC time of Unix ms."""
    return datetime.fromtimestamp(ms / 1_000, UTC)


def milliseconds(at: datetime) -> int:
    """Unix ms of a time."""
    return round(at.timestamp() * 1_000)
