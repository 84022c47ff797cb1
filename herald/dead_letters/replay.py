"""Sends dead letters again, each once: also when a replay dies half-way or two are started.

Order for each chunk: the claims are written down with the end of each partition, the records are
sent with the run and the letter in their headers, then the letters are noted as replayed. A later
run finds the claims that were never noted, searches the topic from those ends on, and notes what is
there (docs/decisions/0142).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from herald.dead_letters.browse import as_text
from herald.dead_letters.errors import FixUpError, ReplayBrokenError
from herald.dead_letters.fixup import FixUp
from herald.dead_letters.judge import TopicJudge
from herald.dead_letters.ledger import Letter, OpenClaim, ReplayLedger, Run
from herald.dead_letters.lock import Held, replay_lock
from herald.dead_letters.selection import LetterId, Selection
from herald.intake.errors import BrokerAwayError
from herald.intake.scan import find, header
from herald.settings import Settings

HEADER_REPLAY_OF = "herald-replay-of"
"""`topic:partition:offset` of the dead letter that a record repeats."""

HEADER_REPLAY_RUN = "herald-replay-run"
CHUNK = 500
SHOWN_BYTES = 2_000
DELIVER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Example:
    """One letter before and after the fix-up. problem: why it will not be sent, or ''."""

    id: str
    before: str
    after: str
    problem: str


@dataclass
class Outcome:
    """What a replay did, or in a dry run would do.

    selected: letters of the filter. already_replayed: of these, sent before.
    sent: on their topic now (0 in a dry run). sendable: fit to be sent.
    refused: still break the contract, by `class field`. failed: the fix-up failed on them.
    skipped: the fix-up gave nothing. left: not looked at, because of the limit.
    recovered: sent by an earlier run that died before it could note it.
    """

    run_id: str
    dry_run: bool
    selected: int = 0
    already_replayed: int = 0
    sendable: int = 0
    sent: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    left: int = 0
    recovered: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)


def replay(
    client: Client,
    settings: Settings,
    selection: Selection,
    *,
    fix_up: str = "",
    dry_run: bool = False,
    again: bool = False,
    limit: int = 10_000,
    examples: int = 3,
    principal: str = "cli",
    wait_seconds: float = 20.0,
) -> Outcome:
    """Mend the selected letters and send those that keep the contract to where they came from.

    Args:
        client: a writer.
        settings: where broker and Valkey are, and the contract's limits.
        selection: which ones.
        fix_up: JSONata expression over the event; '' sends the bytes as they were.
        dry_run: send nothing, say what would be sent.
        again: also those that were replayed before.
        limit: most letters to look at.
        examples: most letters to show before and after.
        principal: who asks, for the ledger.
        wait_seconds: how long another replay is waited for.

    Raises:
        FixUpError: the fix-up is no expression.
        ReplayBusyError: another replay is under way.
        ReplayBrokenError: broker, Valkey or warehouse went away; running it again goes on.
    """
    mend = FixUp(fix_up)
    run = Run(str(uuid.uuid4()), mend.expression, principal)
    work = _Work(client, settings, selection, mend, run, again=again, limit=limit, shown=examples)
    if dry_run:
        return work.look(dry_run=True)
    with replay_lock(settings.valkey, wait_seconds=wait_seconds) as held, _Sender(settings) as out:
        return work.send(held, out)


class _Work:
    """One replay."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        selection: Selection,
        mend: FixUp,
        run: Run,
        *,
        again: bool,
        limit: int,
        shown: int,
    ) -> None:
        self._ledger = ReplayLedger(client)
        self._servers = settings.kafka.servers
        self._judge = TopicJudge(settings)
        self._selection = selection
        self._mend = mend
        self._run = run
        self._again = again
        self._limit = limit
        self._shown = shown
        self._outcome = Outcome(run.run_id, dry_run=False)

    def look(self, *, dry_run: bool) -> Outcome:
        """Judge every letter, send nothing."""
        self._outcome.dry_run = dry_run
        self._count()
        for chunk in self._chunks():
            self._mended(chunk)
        return self._finish()

    def send(self, held: Held, out: _Sender) -> Outcome:
        """Send what is fit to be sent."""
        self._outcome.recovered = self._recover()
        self._count()
        for chunk in self._chunks():
            ready = self._mended(chunk)
            if not ready:
                continue
            held.check()
            ends = out.ends({x.letter for x in ready})
            self._ledger.claim(self._run, ends)
            held.check()
            places, failure = out.send(self._run, ready)
            self._ledger.sent(self._run, places)
            self._outcome.sent += len(places)
            if failure:
                raise ReplayBrokenError(
                    f"{len(ready) - len(places)} of {len(ready)} letters were not acknowledged: "
                    f"{failure}; {self._outcome.sent} were sent, running the replay again goes on"
                )
        return self._finish()

    def _count(self) -> None:
        total, done = self._ledger.count(self._selection)
        self._outcome.selected, self._outcome.already_replayed = total, done

    def _finish(self) -> Outcome:
        seen = self._outcome.sendable + self._outcome.refused
        seen += self._outcome.failed + self._outcome.skipped
        skipped_before = 0 if self._again else self._outcome.already_replayed
        self._outcome.left = max(self._outcome.selected - skipped_before - seen, 0)
        return self._outcome

    def _chunks(self) -> Iterator[list[Letter]]:
        after: LetterId | None = None
        left = self._limit
        while left > 0:
            chunk = self._ledger.letters(
                self._selection, again=self._again, after=after, limit=min(CHUNK, left)
            )
            if not chunk:
                return
            yield chunk
            after, left = chunk[-1].letter, left - len(chunk)

    def _mended(self, chunk: Sequence[Letter]) -> list[Letter]:
        """The letters with the values to send; those that stay are counted with their reason."""
        ready = []
        for one in chunk:
            value, problem = self._mend_one(one)
            if value is not None and not problem:
                ready.append(Letter(one.letter, one.key, value))
            if len(self._outcome.examples) < self._shown:
                after = "" if value is None else as_text(value, SHOWN_BYTES)
                before = as_text(one.value, SHOWN_BYTES)
                self._outcome.examples.append(Example(str(one.letter), before, after, problem))
        self._outcome.sendable += len(ready)
        return ready

    def _mend_one(self, one: Letter) -> tuple[bytes | None, str]:
        try:
            value = self._mend.apply(one.value)
        except FixUpError as error:
            self._outcome.failed += 1
            self._reason("fix_up failed")
            return None, str(error)
        if value is None:
            self._outcome.skipped += 1
            return None, "the fix_up gives nothing: left out"
        problem = self._judge.problem(one.letter.topic, value)
        if problem is None:
            return value, ""
        self._outcome.refused += 1
        self._reason(f"{problem.error_class.value} {problem.field}".strip())
        return value, f"{problem.error_class.value}: {problem.message}"

    def _reason(self, why: str) -> None:
        self._outcome.reasons[why] = self._outcome.reasons.get(why, 0) + 1

    def _recover(self) -> int:
        """Note what runs that died had sent. Returns how many letters."""
        claims = self._ledger.open_claims()
        found = 0
        for topic in sorted({c.letter.topic for c in claims}):
            own = [c for c in claims if c.letter.topic == topic]
            there = _search(self._servers, topic, own)
            for run in {c.run for c in own}:
                places = {
                    c.letter: there[_name(c)] for c in own if _name(c) in there and c.run == run
                }
                self._ledger.sent(run, places)
                found += len(places)
            missing = [c for c in own if _name(c) not in there]
            if missing:
                self._ledger.close(missing)
        return found


def _name(claim: OpenClaim) -> str:
    return f"{claim.run.run_id} {claim.letter}"


def _search(servers: str, topic: str, claims: Sequence[OpenClaim]) -> dict[str, tuple[int, int]]:
    wanted = {_name(c) for c in claims}
    starts: dict[int, int] = {}
    for claim in claims:  # letters go back to their partition
        partition = claim.letter.partition
        starts[partition] = min(starts.get(partition, claim.end_offset), claim.end_offset)

    def name(message: Message) -> str | None:
        run, of = header(message, HEADER_REPLAY_RUN), header(message, HEADER_REPLAY_OF)
        if run is None or of is None:
            return None
        found = f"{run.decode()} {of.decode()}"
        return found if found in wanted else None

    try:
        return find(servers, topic, starts, name, seconds=120)
    except BrokerAwayError as error:
        raise ReplayBrokenError(
            f"an earlier replay died, and what it sent cannot be looked up: {error}"
        ) from error


class _Sender:
    """The broker of one replay. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        servers = settings.kafka.servers
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.max.bytes": 8 * 1024**2,
                "delivery.timeout.ms": int(DELIVER_SECONDS * 1_000),
                "allow.auto.create.topics": False,
                "log_level": 2,
            }
        )
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "herald-replay", "log_level": 2}
        )
        self._servers = servers

    def __enter__(self) -> _Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(1)
        self._consumer.close()

    def ends(self, letters: set[LetterId]) -> Mapping[LetterId, int]:
        """Where the partition of each letter ends now."""
        slots = {(x.topic, x.partition) for x in letters}
        try:
            ends = {
                slot: self._consumer.get_watermark_offsets(TopicPartition(*slot), timeout=10)
                for slot in slots
            }
        except KafkaException as error:
            raise ReplayBrokenError(
                f"broker at {self._servers} does not answer: {error.args[0].str()}; running the "
                "replay again goes on"
            ) from error
        return {x: int(ends[x.topic, x.partition][1]) for x in letters}

    def send(
        self, run: Run, letters: Sequence[Letter]
    ) -> tuple[dict[LetterId, tuple[int, int]], str]:
        """Where each acknowledged letter stands now, and why others are not, or ''."""
        places: dict[LetterId, tuple[int, int]] = {}
        failures: list[str] = []
        for one in letters:
            note = _Note(one.letter, places, failures)
            headers = [
                (HEADER_REPLAY_OF, str(one.letter).encode()),
                (HEADER_REPLAY_RUN, run.run_id.encode()),
            ]
            try:
                self._producer.produce(
                    one.letter.topic,
                    key=one.key or None,
                    value=one.value,
                    partition=one.letter.partition,
                    headers=headers,
                    on_delivery=note,
                )
            except (KafkaException, BufferError) as error:
                failures.append(str(error))
        self._producer.flush(DELIVER_SECONDS + 5)
        if len(places) < len(letters) and not failures:
            failures.append("no answer in time")
        return places, failures[0] if failures else ""


class _Note:
    """Notes where one letter went."""

    def __init__(
        self, letter: LetterId, places: dict[LetterId, tuple[int, int]], failures: list[str]
    ) -> None:
        self._letter, self._places, self._failures = letter, places, failures

    def __call__(self, error: object, message: Message) -> None:
        if error is None:
            self._places[self._letter] = (int(message.partition()), int(message.offset()))
        else:
            self._failures.append(str(error))
