"""Takes a batch: judged, each new event once on the topic, answered after the acknowledgement."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from confluent_kafka import Message
from prometheus_client import CollectorRegistry, Counter

from herald.contract.judging import RejectedError
from herald.intake.broker import HEADER_BATCH, Ends, EventTopic, Sendable
from herald.intake.errors import BrokerAwayError, IntakeError, LagError
from herald.intake.recent import DONE, Claim, RecentIds
from herald.intake.scan import find, header
from herald.settings import Intake as IntakeSettings

LEASE_SECONDS = 30.0
"""After it, beyond the delivery's own time, the sender of a claim is taken for dead."""

Judge = Callable[[Sequence[bytes]], Mapping[int, RejectedError]]
"""Position to the reason of each event that the contract refuses."""

LandedOffsets = Callable[[], Mapping[int, int] | None]
"""Next offset that landing takes, by partition; None while the warehouse does not say."""


class _Head(msgspec.Struct):
    event_id: str = ""
    tenant_id: str = ""
    user_id: str = ""


_head = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one event was refused. index counts from 0 in the batch."""

    index: int
    event_id: str
    error_class: str
    field: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch. accepted + duplicates + refused = events sent.

    duplicates are known already, from an earlier batch or from this one.
    """

    accepted: int
    duplicates: int
    verdicts: tuple[Verdict, ...]


class Intake:
    """Takes batches. Thread-safe."""

    def __init__(
        self,
        settings: IntakeSettings,
        topic: EventTopic,
        recent: RecentIds,
        judge: Judge,
        landed: LandedOffsets,
        registry: CollectorRegistry,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._recent = recent
        self._judge = judge
        self._landed = landed
        self._last_landed: Mapping[int, int] | None = None
        self._events = Counter(
            "herald_intake_events_total",
            "Events received over HTTP, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "herald_intake_batches_refused_total",
            "Batches not taken, by reason.",
            ["code"],
            registry=registry,
        )

    def take(self, events: Sequence[bytes]) -> Receipt:
        """Judge, send and wait for the broker.

        Raises:
            IntakeError: nothing of the batch counts, or not all of it is known to; sending it
                again is safe.
        """
        try:
            receipt = self._take(events)
        except IntakeError as error:
            self._refused.labels(error.code).inc()
            raise
        self._events.labels("accepted").inc(receipt.accepted)
        self._events.labels("duplicate").inc(receipt.duplicates)
        self._events.labels("refused").inc(len(receipt.verdicts))
        return receipt

    def lag(self, ends: Ends) -> int | None:
        """Events produced but not landed; None while that is unknown."""
        if (known := self._landed()) is not None:
            self._last_landed = known
        landed = self._last_landed
        if landed is None:
            return None
        return sum(max(high - max(landed.get(p, low), low), 0) for p, (low, high) in ends.items())

    def close(self) -> None:
        """Leave broker and store."""
        self._topic.close()
        self._recent.close()

    def _take(self, events: Sequence[bytes]) -> Receipt:
        ends = self._topic.ends()
        self._check_lag(ends)
        refused = self._judge(events)
        fresh: dict[str, Sendable] = {}
        for position, value in enumerate(events):
            if position not in refused:
                head = _head(value)
                fresh.setdefault(_identity(head), Sendable(head.user_id, value))
        good = len(events) - len(refused)
        accepted = self._send_new(fresh, {p: high for p, (_, high) in ends.items()})
        return Receipt(
            accepted,
            good - accepted,
            tuple(_verdict(index, events[index], error) for index, error in refused.items()),
        )

    def _check_lag(self, ends: Ends) -> None:
        lag = self.lag(ends)
        if lag is not None and lag > self._settings.max_lag:
            # what is above the limit, at a rate that landing reaches on two cores
            seconds = min(max(int((lag - self._settings.max_lag) / 50_000), 1), 60)
            raise LagError(lag, self._settings.max_lag, seconds)

    def _send_new(self, fresh: Mapping[str, Sendable], starts: Mapping[int, int]) -> int:
        """Send what no batch has sent. Returns how many."""
        if not fresh:
            return 0
        claim = Claim.new(starts)
        begun = time.monotonic()
        ids = list(fresh)
        holders = dict(zip(ids, self._recent.claim(ids, claim), strict=True))
        try:
            ours = [one for one in ids if holders[one] is None]
            ours += self._take_over(
                {i: h.decode() for i, h in holders.items() if h not in (None, DONE)}, claim
            )
            if time.monotonic() - begun > LEASE_SECONDS / 2:
                raise BrokerAwayError("the claim took too long; send the batch again")
        except IntakeError:
            self._recent.release(ids, claim.token)
            raise
        self._deliver(ours, fresh, claim)
        return len(ours)

    def _deliver(self, ours: Sequence[str], fresh: Mapping[str, Sendable], claim: Claim) -> None:
        outcome = self._topic.send([fresh[one] for one in ours], claim.token)
        self._recent.confirm([one for one, why in zip(ours, outcome, strict=True) if why is None])
        failed = [why for why in outcome if why is not None]
        if failed:
            # the broker may have kept them all the same: the next try looks it up
            self._recent.end(claim)
            raise BrokerAwayError(
                f"{len(failed)} of {len(ours)} events were not acknowledged: {failed[0]}; send "
                "the whole batch again, what was taken counts once"
            )

    def _take_over(self, held: Mapping[str, str], claim: Claim) -> list[str]:
        """Ids whose sender is gone without having sent them; they are claimed anew.

        Raises:
            IntakeError: a sender is still at work, 503.
        """
        taken: list[str] = []
        for token in sorted(set(held.values())):
            ids = [one for one, holder in held.items() if holder == token]
            other = self._recent.holder(token)
            if other is not None and not self._is_over(other):
                raise IntakeError(
                    503,
                    "batch_under_way",
                    f"{len(ids)} of these events are being sent by another request; send the "
                    "batch again, what was taken counts once",
                    retry_after=2,
                )
            sent = self._sent_under(other) if other is not None else frozenset()
            self._recent.confirm([one for one in ids if one in sent])
            missing = [one for one in ids if one not in sent]
            self._recent.release(missing, token)
            again = self._recent.claim(missing, claim)
            if any(holder is not None for holder in again):
                raise IntakeError(
                    503, "batch_under_way", "another request was faster", retry_after=2
                )
            taken += missing
        return taken

    def _is_over(self, other: Claim) -> bool:
        lease = LEASE_SECONDS + self._settings.deliver_seconds
        return other.ended or time.time() - other.at > lease

    def _sent_under(self, other: Claim) -> frozenset[str]:
        """Ids that the broker has from a claim whose sender is gone."""
        token = other.token.encode()

        def name(message: Message) -> str | None:
            value = message.value()
            return _identity(_head(value)) if header(message, HEADER_BATCH) == token else None

        return frozenset(find(self._topic.servers, self._topic.topic, other.starts, name))


def _identity(head: _Head) -> str:
    """Names an event among all tenants; short, because there are many."""
    text = f"{head.tenant_id}\0{head.event_id.lower()}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _verdict(index: int, value: bytes, error: RejectedError) -> Verdict:
    try:
        event_id = _head(value).event_id[:64]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        event_id = ""
    return Verdict(index, event_id, error.error_class.value, error.field, error.value, error.rule)
