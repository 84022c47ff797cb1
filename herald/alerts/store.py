"""Alerts in the warehouse: `live.alerts`, what people did to them, what there is to tell."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client

from herald.alerts.lifecycle import Changes
from herald.alerts.model import Alert, Key, Transition

COLUMNS = list(Alert.model_fields)
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM live.alerts FINAL"
KNOWN_DAYS = 2
"""Resolved alerts that are still looked at, so that instants judged again open nothing."""
MAX_LISTED = 1_000
MIN_PREFIX = 8


class NoAlertError(Exception):
    """No alert has this id."""


class WarehouseStore:
    """Alerts of all tenants. Not for several threads, as its client is not."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def known(self) -> dict[Key, Alert]:
        """The latest alert of each key: every open one, and those resolved lately."""
        rows = self._client.query(
            f"{_SELECT} WHERE status != 'resolved' "
            f"OR updated_at > now() - INTERVAL {KNOWN_DAYS} DAY ORDER BY opened_at"
        )
        alerts = [_alert(row) for row in rows.result_rows]
        # an acknowledgement of this moment: its own version of the row may be on its way
        return {a.key: a for a in _with_actions(alerts, self._actions(alerts))}

    def write(self, changes: Changes) -> None:
        """What has to be told first, then the states: a crash between tells all the same."""
        alerts = list(changes.alerts.values())
        current = {a.alert_id: a for a in _with_actions(alerts, self._actions(alerts))}
        self.tell(changes.transitions)
        self.put(current.values())

    def put(self, alerts: Iterable[Alert]) -> None:
        """New versions of alerts."""
        version = time.time_ns() // 1_000
        rows = [
            [getattr(alert, name) for name in COLUMNS[:-1]] + [version + i]
            for i, alert in enumerate(alerts)
        ]
        if rows:
            self._client.insert("live.alerts", rows, column_names=COLUMNS)

    def tell(self, transitions: Sequence[Transition]) -> None:
        """Put transitions where the dispatcher finds them."""
        names = ["alert_id", "transition", "tenant_id", "rule", "payload", "happened_at"]
        rows = [
            [t.alert.alert_id, t.transition, t.alert.tenant_id, t.alert.rule,
             t.alert.model_dump_json(), t.happened_at]
            for t in transitions
        ]  # fmt: skip
        if rows:
            self._client.insert("live.alert_transitions", rows, column_names=names)

    def get(self, alert_id: str) -> Alert:
        """One alert, by its id or by the first characters of it (eight or more).

        Raises:
            NoAlertError: there is none, or several begin so.
        """
        whole = len(alert_id) < MIN_PREFIX
        rows = self._client.query(
            f"{_SELECT} WHERE "
            + ("alert_id = {id:String}" if whole else "startsWith(alert_id, {id:String})")
            + " LIMIT 2",
            parameters={"id": alert_id},
        ).result_rows
        if not rows:
            raise NoAlertError(f"alert_id={alert_id!r}: no such alert; `herald alerts list`")
        if len(rows) > 1:
            raise NoAlertError(f"alert_id={alert_id!r}: several alerts begin so; write more of it")
        alerts = [_alert(row) for row in rows]
        return _with_actions(alerts, self._actions(alerts))[0]

    def find(
        self,
        *,
        statuses: Sequence[str] = (),
        tenant: str = "",
        rule: str = "",
        severity: str = "",
        limit: int = 100,
    ) -> list[Alert]:
        """Alerts, those that changed last first."""
        conditions = ["1"]
        if statuses:
            conditions.append("status IN {statuses:Array(String)}")
        conditions += [
            f"{name} = {{{name}:String}}"
            for name, value in (("tenant_id", tenant), ("rule", rule), ("severity", severity))
            if value
        ]
        rows = self._client.query(
            f"{_SELECT} WHERE {' AND '.join(conditions)} "
            "ORDER BY updated_at DESC, alert_id LIMIT {limit:UInt32}",
            parameters={
                "statuses": list(statuses), "tenant_id": tenant, "rule": rule,
                "severity": severity, "limit": min(limit, MAX_LISTED),
            },
        ).result_rows  # fmt: skip
        return [_alert(row) for row in rows]

    def acknowledge(self, alert_id: str, by: str, comment: str = "") -> Alert:
        """Somebody takes care of it: it stays listed, and is not told as firing again.

        Raises:
            NoAlertError: there is no such alert.
        """
        alert = self.get(alert_id)
        if alert.status != "firing":
            return alert
        return self._act(alert, "acknowledged", by, comment, None)

    def silence(self, alert_id: str, by: str, length: timedelta, comment: str = "") -> Alert:
        """Tell nothing of this rule and group until then, of later alerts neither.

        Raises:
            NoAlertError: there is no such alert.
        """
        alert = self.get(alert_id)
        return self._act(alert, "silenced", by, comment, datetime.now(UTC) + length)

    def resolve(self, alert_id: str) -> Alert:
        """End it by hand, as for a rule that is gone; what is still wrong opens another one.

        Raises:
            NoAlertError: there is no such alert.
        """
        alert = self.get(alert_id)
        if not alert.is_open:
            return alert
        now = max(datetime.now(UTC), alert.updated_at)
        done = alert.model_copy(
            update={"status": "resolved", "resolved_at": now, "updated_at": now, "window_end": now}
        )
        self.tell([Transition(transition="resolved", happened_at=now, alert=done)])
        self.put([done])
        return done

    def silences(self) -> dict[Key, datetime]:
        """Until when each rule and group is silent."""
        rows = self._client.query(
            "SELECT rule, tenant_id, group_key, max(until) FROM live.alert_actions "
            "WHERE action = 'silenced' AND until > now64(3) GROUP BY rule, tenant_id, group_key"
        ).result_rows
        return {
            (str(rule), str(tenant), tuple(sorted(labels.items()))): _utc(until)
            for rule, tenant, labels, until in rows
        }

    def figures(self) -> tuple[list[tuple[str, str, str, int]], list[tuple[str, str, int]]]:
        """Open alerts by rule, severity and status; tries to tell by destination and outcome."""
        opened = self._client.query(
            "SELECT rule, severity, status, count() FROM live.alerts FINAL "
            "WHERE status != 'resolved' GROUP BY rule, severity, status"
        ).result_rows
        told = self._client.query(
            "SELECT destination, outcome, count() FROM live.alert_deliveries "
            "GROUP BY destination, outcome"
        ).result_rows
        return (
            [(str(r), str(v), str(s), int(n)) for r, v, s, n in opened],
            [(str(d), str(o), int(n)) for d, o, n in told],
        )

    def _act(
        self, alert: Alert, action: str, by: str, comment: str, until: datetime | None
    ) -> Alert:
        now = datetime.now(UTC)
        self._client.insert(
            "live.alert_actions",
            [[alert.alert_id, alert.tenant_id, alert.rule, alert.group_key, action, by, comment,
              until, now]],
            column_names=["alert_id", "tenant_id", "rule", "group_key", "action", "principal",
                          "comment", "until", "acted_at"],
        )  # fmt: skip
        changed = _with_actions([alert], self._actions([alert]))[0]
        changed = changed.model_copy(update={"updated_at": max(now, alert.updated_at)})
        transition = Transition(transition=action, happened_at=now, alert=changed)
        self.tell([transition])
        self.put([changed])
        return changed

    def _actions(self, alerts: Sequence[Alert]) -> dict[str, list[tuple[str, str, Any]]]:
        """Actions on some alerts, in their order: (action, by, until)."""
        if not alerts:
            return {}
        rows = self._client.query(
            "SELECT alert_id, action, principal, until FROM live.alert_actions "
            "WHERE alert_id IN {ids:Array(String)} ORDER BY acted_at",
            parameters={"ids": [a.alert_id for a in alerts]},
        ).result_rows
        found: dict[str, list[tuple[str, str, Any]]] = {}
        for alert_id, action, by, until in rows:
            found.setdefault(str(alert_id), []).append((str(action), str(by), until))
        return found


def _with_actions(
    alerts: Sequence[Alert], actions: dict[str, list[tuple[str, str, Any]]]
) -> list[Alert]:
    changed = []
    for alert in alerts:
        update: dict[str, Any] = {}
        for action, by, until in actions.get(alert.alert_id, []):
            if action == "acknowledged":
                update["acknowledged_by"] = by
                if alert.is_open:
                    update["status"] = "acknowledged"
            else:
                update["silenced_until"] = _utc(until)
        changed.append(alert.model_copy(update=update) if update else alert)
    return changed


def _alert(row: Sequence[Any]) -> Alert:
    values = dict(zip(COLUMNS, row, strict=True))
    return Alert.model_validate(
        {k: _utc(v) if isinstance(v, datetime) else v for k, v in values.items()}
    )


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
