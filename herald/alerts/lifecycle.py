"""From judgements to alerts: opened once, kept up to date, resolved. Pure.

State is the alerts themselves; nothing else has to survive. A judgement made again changes nothing:
the id follows from the first wrong window, and what an alert covers already cannot open another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from herald.alerts.detect import Verdicts
from herald.alerts.model import Alert, Key, Transition, alert_id, instant, key_of, milliseconds
from herald.alerts.rules import BaseRule, Rule
from herald.alerts.words import summary


@dataclass(slots=True)
class Changes:
    """Alerts to write, each in its latest state, and what there is to tell."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)


def lookback_ms(rule: BaseRule) -> int:
    """How far before a new instant a rule is judged again, to know since when it is wrong."""
    return int(rule.lasting.total_seconds() * 1_000) + rule.every_ms


def advance(
    rule: Rule, verdicts: Iterable[Verdicts], known: Mapping[Key, Alert], since_ms: int
) -> Changes:
    """What judgements change.

    Args:
        rule: the rule judged.
        verdicts: its judgements in order of time, from `lookback_ms` before `since_ms` on.
        known: the latest alert of each key.
        since_ms: instants up to it were dealt with; they only tell since when a rule is wrong.
    """
    changes = Changes()
    tracks: dict[Key, _Track] = {}
    for part in verdicts:
        rows = {
            key_of(rule.name, group[0], dict(zip(rule.group_by, group[1:], strict=True))): row
            for row, group in enumerate(part.groups)
        }
        open_keys = {k for k, a in known.items() if a.is_open and k[0] == rule.name}
        broken = set(np.flatnonzero(part.broken.any(axis=1)).tolist())
        wanted = {k for k, row in rows.items() if row in broken} | open_keys | set(tracks)
        for key in sorted(wanted):
            track = tracks.setdefault(key, _Track(rule, key, known.get(key)))
            track.follow(part, rows.get(key), since_ms, changes)
    return changes


class _Track:
    """One key through the instants."""

    def __init__(self, rule: Rule, key: Key, alert: Alert | None) -> None:
        self._rule, self._key, self._alert = rule, key, alert
        self._wrong_since: int | None = None
        self._cooldown = int(rule.cooldown.total_seconds() * 1_000)
        self._lasting = int(rule.lasting.total_seconds() * 1_000)

    def follow(self, part: Verdicts, row: int | None, since_ms: int, changes: Changes) -> None:
        """Go through the instants of one batch of judgements; no row is no events."""
        for column, tick in enumerate(map(int, part.ticks)):
            broken = row is not None and bool(part.broken[row, column])
            self._wrong_since = (self._wrong_since or tick) if broken else None
            if tick <= since_ms:
                continue
            alert = self._alert
            if alert is not None and alert.is_open:
                if broken and row is not None:
                    self._set(self._measured(alert, part, row, column), changes)
                elif tick - milliseconds(alert.window_end) >= self._cooldown:
                    self._resolve(alert, tick, changes)
            elif (
                broken
                and row is not None
                and self._wrong_since is not None
                and tick - self._wrong_since >= self._lasting
                and not self._is_covered(self._wrong_since)
            ):
                self._open(part, row, column, changes)

    def _is_covered(self, since: int) -> bool:
        """Whether the last alert was about the same instants: a batch is judged again."""
        return self._alert is not None and since <= milliseconds(self._alert.window_end)

    def _open(self, part: Verdicts, row: int, column: int, changes: Changes) -> None:
        rule, (_, tenant, labels) = self._rule, self._key
        assert self._wrong_since is not None
        at = instant(int(part.ticks[column]))
        alert = Alert(
            alert_id=alert_id(rule.name, tenant, dict(labels), self._wrong_since),
            tenant_id=tenant, rule=rule.name, kind=rule.kind, severity=rule.severity,
            status="firing", group_key=dict(labels), value=0, threshold=0, baseline=None, events=0,
            window_start=instant(self._wrong_since - rule.window_ms), window_end=at,
            opened_at=at, updated_at=at, summary="", runbook=rule.runbook, owner=rule.owner,
        )  # fmt: skip
        alert = self._measured(alert, part, row, column)
        self._set(alert, changes)
        changes.transitions.append(Transition(transition="opened", happened_at=at, alert=alert))

    def _measured(self, alert: Alert, part: Verdicts, row: int, column: int) -> Alert:
        at = instant(int(part.ticks[column]))
        usual = float(part.usual[row, column])
        changed = alert.model_copy(
            update={
                "value": float(part.value[row, column]),
                "threshold": float(part.limit[row, column]),
                "baseline": None if np.isnan(usual) else usual,
                "events": int(part.events[row, column]),
                "window_end": at,
                "updated_at": at,
            }
        )
        return changed.model_copy(update={"summary": summary(self._rule, changed)})

    def _resolve(self, alert: Alert, tick: int, changes: Changes) -> None:
        at = instant(tick)
        done = alert.model_copy(update={"status": "resolved", "resolved_at": at, "updated_at": at})
        self._set(done, changes)
        changes.transitions.append(Transition(transition="resolved", happened_at=at, alert=done))

    def _set(self, alert: Alert, changes: Changes) -> None:
        self._alert = alert
        changes.alerts[alert.alert_id] = alert
