"""An alert about nothing, to see whether destinations take one."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from herald.alerts.model import Alert, Transition


def sample(now: datetime | None = None) -> Transition:
    """A test alert of a tenant that does not exist."""
    at = now or datetime.now(UTC)
    alert = Alert(
        alert_id=uuid.uuid4().hex, tenant_id="test", rule="delivery_test", kind="test",
        severity="info", status="firing", group_key={"channel": "email"}, value=1.0,
        threshold=0.5, baseline=None, events=1, window_start=at - timedelta(minutes=15),
        window_end=at, opened_at=at, updated_at=at, owner="nobody",
        summary="test: this alert only shows that alerts arrive",
        runbook="docs/reference/alerts.md",
    )  # fmt: skip
    return Transition(transition="test", happened_at=at, alert=alert)
