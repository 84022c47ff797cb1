"""Tells destinations what happened: at least once each, with retries, and a log of every try.

What is to be told stands in `live.alert_transitions` before anybody can see the alert; what was
told stands in `live.alert_deliveries`. The rest is what is left to do, after a crash too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from herald.alerts.destinations import ALL, DeliveryError, Destination
from herald.alerts.model import Alert, Transition
from herald.alerts.notice import Notice, group
from herald.alerts.store import WarehouseStore

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0
POLL_SECONDS = 2.0
DONE = ("delivered", "suppressed", "gave_up")


@dataclass(frozen=True, slots=True)
class Tried:
    """How far telling one destination of one transition has come."""

    attempts: int
    done: bool
    last_at: float


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did: notices sent, notices that failed, transitions kept quiet or given up."""

    sent: int = 0
    failed: int = 0
    suppressed: int = 0
    gave_up: int = 0


class Dispatcher:
    """Looks for what is to be told, and tells it. One at a time for an installation."""

    def __init__(
        self,
        client: Client,
        destinations: Sequence[Destination],
        *,
        group_seconds: float = 5.0,
        give_up_hours: float = 24.0,
        runbook_url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._store = WarehouseStore(client)
        self._destinations = list(destinations)
        self._group_seconds = group_seconds
        self._give_up = timedelta(hours=give_up_hours)
        self._runbook_url = runbook_url
        self._clock = clock
        self._seen: dict[tuple[str, str], float] = {}

    def round(self) -> Round:
        """Tell what is due. A crash within it tells the same again later, under the same keys.

        Raises:
            ClickHouseError: the warehouse is away.
        """
        waiting = self._transitions()
        if not waiting:
            return Round()
        tried = self._tried({t.alert.alert_id for t in waiting})
        silent = self._store.silences()
        counts = dict.fromkeys(("sent", "failed", "suppressed", "gave_up"), 0)
        for destination in self._destinations:
            due = [
                t for t in waiting
                if t.transition in destination.takes and self._is_due(t, destination, tried)
            ]  # fmt: skip
            quiet = [t for t in due if destination.is_person and t.alert.key in silent]
            late = [t for t in due if self._is_late(t) and t not in quiet]
            for outcome, some in (("suppressed", quiet), ("gave_up", late)):
                if some:
                    self._note(destination, Notice(tuple(some)), outcome, "", tried)
                    counts[outcome] += len(some)
            told = [t for t in due if t not in quiet and t not in late]
            for notice in group(self._in_order(told, destination, tried), self._runbook_url):
                if not self._send(destination, notice, tried):
                    counts["failed"] += 1
                    break  # it would refuse the others too; an end must not come first
                counts["sent"] += 1
        return Round(**counts)

    def run(self, stop: threading.Event, on_error: Callable[[str], None]) -> None:
        """Go on until told to stop. A warehouse that is away is waited for."""
        while not stop.is_set():
            try:
                done = self.round()
                if done.failed:
                    on_error(f"{done.failed} notices were not taken, they are tried again")
            except (ClickHouseError, OSError) as error:
                on_error(f"warehouse: {str(error)[:300]}")
            stop.wait(POLL_SECONDS)

    def _send(
        self, destination: Destination, notice: Notice, tried: dict[tuple[str, str, str], Tried]
    ) -> bool:
        try:
            detail = destination.send(notice)
        except DeliveryError as error:
            self._note(destination, notice, "failed", str(error), tried)
            return False
        self._note(destination, notice, "delivered", detail, tried)
        return True

    def _transitions(self) -> list[Transition]:
        """What some destination was not told yet, of the time in which it is, and a day more."""
        since = datetime.fromtimestamp(self._clock(), UTC) - self._give_up - timedelta(days=1)
        rows = self._client.query(
            "SELECT transition, happened_at, payload FROM live.alert_transitions FINAL "
            "WHERE happened_at >= {since:DateTime64(3, 'UTC')} AND (alert_id, transition) NOT IN ("
            "SELECT alert_id, transition FROM live.alert_deliveries "
            "WHERE outcome IN {done:Array(String)} AND destination IN {names:Array(String)} "
            "GROUP BY alert_id, transition "
            "HAVING uniqExact(destination) >= transform(transition, {transitions:Array(String)}, "
            "{takers:Array(UInt32)}, 1)"
            ") ORDER BY happened_at, alert_id",
            parameters={
                "since": since,
                "done": list(DONE),
                "names": [d.name for d in self._destinations],
                "transitions": sorted(ALL),
                "takers": [
                    sum(name in d.takes for d in self._destinations) for name in sorted(ALL)
                ],
            },
        ).result_rows
        found = [
            Transition(
                transition=name,
                happened_at=at.replace(tzinfo=UTC) if at.tzinfo is None else at,
                alert=Alert.model_validate_json(payload),
            )
            for name, at, payload in rows
        ]
        now = self._clock()
        keys = {(t.alert.alert_id, str(t.transition)) for t in found}
        self._seen = {key: self._seen.get(key, now) for key in keys}
        return found

    def _tried(self, alerts: AbstractSet[str]) -> dict[tuple[str, str, str], Tried]:
        rows = self._client.query(
            "SELECT alert_id, transition, destination, max(attempt), "
            "countIf(outcome IN {done:Array(String)}) > 0, "
            "max(toUnixTimestamp64Milli(attempted_at)) / 1000 FROM live.alert_deliveries "
            "WHERE alert_id IN {alerts:Array(String)} GROUP BY alert_id, transition, destination",
            parameters={"done": list(DONE), "alerts": sorted(alerts)},
        ).result_rows
        return {(a, t, d): Tried(int(n), bool(done), float(at)) for a, t, d, n, done, at in rows}

    def _is_due(
        self,
        one: Transition,
        destination: Destination,
        tried: dict[tuple[str, str, str], Tried],
    ) -> bool:
        past = tried.get((one.alert.alert_id, one.transition, destination.name))
        if past is None:
            # wait a moment for others of the same rule, to tell them together
            first_seen = self._seen[one.alert.alert_id, str(one.transition)]
            return self._clock() - first_seen >= self._group_seconds
        return not past.done and self._clock() - past.last_at >= pause(past.attempts)

    def _is_late(self, one: Transition) -> bool:
        return datetime.fromtimestamp(self._clock(), UTC) - one.happened_at > self._give_up

    @staticmethod
    def _in_order(
        due: Sequence[Transition],
        destination: Destination,
        tried: dict[tuple[str, str, str], Tried],
    ) -> list[Transition]:
        """Without ends whose beginning this destination was tried to be told of and has not."""
        waiting = {
            alert_id
            for (alert_id, name, who), past in tried.items()
            if who == destination.name and name == "opened" and not past.done
        }
        now_told = {t.alert.alert_id for t in due if t.transition == "opened"}
        return [
            t for t in due
            if t.transition == "opened" or t.alert.alert_id not in waiting - now_told
        ]  # fmt: skip

    def _note(
        self,
        destination: Destination,
        notice: Notice,
        outcome: str,
        detail: str,
        tried: dict[tuple[str, str, str], Tried],
    ) -> None:
        at = datetime.fromtimestamp(self._clock(), UTC)
        rows = []
        for one in notice.transitions:
            key = (one.alert.alert_id, one.transition, destination.name)
            attempt = (tried[key].attempts if key in tried else 0) + 1
            tried[key] = Tried(attempt, outcome in DONE, at.timestamp())
            rows.append(
                [*key, outcome, attempt, notice.idempotency_key, detail[:500], at]
            )  # fmt: skip
        self._client.insert(
            "live.alert_deliveries",
            rows,
            column_names=["alert_id", "transition", "destination", "outcome", "attempt",
                          "idempotency_key", "detail", "attempted_at"],
        )  # fmt: skip


def pause(attempts: int) -> float:
    """Seconds to wait after so many tries: doubling, up to five minutes."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** (attempts - 1), LONGEST_PAUSE_SECONDS)
