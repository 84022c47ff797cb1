"""Judges every rule up to an instant and writes what changed: what stream and measurement share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from herald.alerts.detect import Baselines, detect
from herald.alerts.lifecycle import Changes, advance, lookback_ms
from herald.alerts.model import Alert, Key, Transition
from herald.alerts.observations import Observations
from herald.alerts.panel import Ints
from herald.alerts.rules import Rule


class AlertStore(Protocol):
    """Keeps alerts. Writing the same again must change nothing."""

    def known(self) -> dict[Key, Alert]:
        """The latest alert of each key, open or not."""

    def write(self, changes: Changes) -> None:
        """Keep new states, and what there is to tell."""


class MemoryStore:
    """Alerts in memory, for measurements."""

    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}
        self.transitions: dict[str, Transition] = {}
        self._latest: dict[Key, Alert] = {}

    def known(self) -> dict[Key, Alert]:
        """The latest alert of each key."""
        return dict(self._latest)

    def write(self, changes: Changes) -> None:
        """Keep them."""
        self.alerts.update(changes.alerts)
        for alert in changes.alerts.values():
            last = self._latest.get(alert.key)
            if last is None or last.opened_at <= alert.opened_at:
                self._latest[alert.key] = alert
        for told in changes.transitions:
            self.transitions.setdefault(told.idempotency_key, told)


@dataclass(frozen=True, slots=True)
class Judged:
    """What one step did."""

    rules: int
    open_alerts: int
    opened: int
    resolved: int
    failed: tuple[str, ...]
    """Rules whose judgement failed, with the reason; the others went on."""


class Judge:
    """All rules over one source of counts and one store of alerts."""

    def __init__(
        self,
        rules: Sequence[Rule],
        observations: Observations,
        store: AlertStore,
    ) -> None:
        self.rules = list(rules)
        self._observations = observations
        self._baselines = Baselines(observations)
        self._store = store

    def replace(self, rules: Sequence[Rule]) -> None:
        """Other rules from the next step on."""
        self.rules = list(rules)
        self._baselines = Baselines(self._observations)

    def step(self, since_ms: int, until_ms: int) -> Judged:
        """Judge every instant in (since, until] of every rule's grid. Twice is as good as once.

        Raises:
            OperationalError: the warehouse does not answer; nothing was written.
        """
        known = self._store.known()
        merged = Changes()
        failed: list[str] = []
        judged = 0
        for rule in self.rules:
            ticks = grid(since_ms - lookback_ms(rule), until_ms, rule.every_ms)
            if not len(ticks) or ticks[-1] <= since_ms:
                continue
            judged += 1
            try:
                verdicts = detect(rule, self._observations, self._baselines, ticks)
                changes = advance(rule, verdicts, known, since_ms)
            except OperationalError:
                raise
            except DatabaseError as error:  # one rule's query must not stop the other rules
                failed.append(f"{rule.name}: {str(error).splitlines()[0][:300]}")
                continue
            merged.alerts.update(changes.alerts)
            merged.transitions += changes.transitions
        if merged.alerts:
            self._store.write(merged)
            known.update({alert.key: alert for alert in merged.alerts.values()})
        names = [t.transition for t in merged.transitions]
        return Judged(
            judged, sum(a.is_open for a in known.values()), names.count("opened"),
            names.count("resolved"), tuple(failed),
        )  # fmt: skip


def grid(after_ms: int, until_ms: int, every_ms: int) -> Ints:
    """Multiples of `every` in (after, until]."""
    first = after_ms // every_ms + 1
    return np.arange(first, until_ms // every_ms + 1, dtype=np.int64) * every_ms
