"""Fuzz: a million events, one in a hundred mutated; each lands or is a dead letter with a class."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from herald.chaos.producer import event
from herald.chaos.rig import ChaosError, Rig, own_settings
from herald.contract.errors import ErrorClass
from herald.contract.events import Event
from herald.settings import Settings

MUTATED_SHARE = 100
"""One event in so many is mutated."""

STALL_SECONDS = 300.0
_HOSTILE = (
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"\r\n",
    b"\n", b'"', b"\\", b"{", b"}", b"[[[[", b"1e999", b"-0", b"NaN", b"null", b'":"', b",",
    b'"_offset":1,', b'"tenant_id":"twice",', b"9" * 400, b" " * 50, b"\xe2\x80\xa8",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FuzzCount:
    """Fields of `fuzz` in `var/chaos.json`; `classes` counts the dead letters by class."""

    events: int
    mutated: int
    landed: int
    dead_lettered: int
    unaccounted: int
    restarts: int
    classes: dict[str, int]
    seconds: float


def wild_values() -> st.SearchStrategy[Any]:
    """Whatever JSON can say."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=40)
        | st.sampled_from(["", " ", "DE", "2999-01-01T00:00:00Z", "1e9", "email.sent", "-1"])
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=8,
    )


def wild_changes() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of the contract, or others, with values that may be anything."""
    names = st.sampled_from(sorted(Event.model_fields)) | st.text(max_size=12)
    return st.dictionaries(names, wild_values(), min_size=1, max_size=6)


def structural_mutants(count: int, seed_number: int) -> list[bytes]:
    """Valid JSON objects, mostly wrong: seeded draws of the strategies over a valid event."""
    found: list[bytes] = []
    while len(found) < count:
        found += _draw(min(count - len(found), 2_000), seed_number + len(found))
    return found[:count]


def _draw(count: int, seed_number: int) -> list[bytes]:
    found: list[bytes] = []

    @seed(seed_number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(wild_changes(), st.lists(st.sampled_from(sorted(Event.model_fields)), max_size=3))
    def collect(changes: dict[str, Any], dropped: list[str]) -> None:
        base = json.loads(event(seed_number, len(found), datetime.now(UTC)))
        kept = {k: v for k, v in (base | changes).items() if k not in dropped}
        text = json.dumps(kept, ensure_ascii=len(found) % 2 == 0)
        found.append(text.encode("utf-8", "surrogatepass"))

    collect()
    return found


def mutate_bytes(value: bytes, rng: random.Random) -> bytes:
    """One to four cuts, copies, flips and hostile pieces at random places."""
    data = bytearray(value)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        until = min(len(data), at + rng.randint(1, 40))
        match rng.randrange(6):
            case 0:
                data[at:at] = rng.choice(_HOSTILE)
            case 1:
                del data[at:until]
            case 2:
                data[at:at] = data[at:until]
            case 3:
                data[at:until] = rng.randbytes(until - at)
            case 4:
                del data[at:]
            case _ if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case _:
                data[:] = b"[" * rng.choice([1, 500, 20_000]) + data
    return bytes(data)


def fuzzed_events(count: int, seed_number: int) -> Iterator[tuple[bytes, bool]]:
    """Events with whether each was mutated: half by structure, half by bytes."""
    rng = random.Random(seed_number)
    mutants = iter(structural_mutants(count // MUTATED_SHARE // 2 + 1, seed_number))
    by_structure = True
    for number in range(count):
        value = event(seed_number, number, datetime.now(UTC))
        if number % MUTATED_SHARE != MUTATED_SHARE // 2:
            yield value, False
            continue
        mutant = next(mutants, None) if by_structure else None
        yield mutant if mutant is not None else mutate_bytes(value, rng), True
        by_structure = not by_structure


def run_fuzz(
    base: Settings, events: int, seed_number: int, say: Callable[[str], None]
) -> FuzzCount:
    """Produce, land and account on a platform of its own.

    Raises:
        ChaosError: landing stood still.
    """
    with (
        tempfile.TemporaryDirectory(prefix="herald-fuzz-") as folder,
        Rig(own_settings(Path(folder), base, range_offsets=50_000), rate=0, seed=0) as rig,
    ):
        return fuzz_on(rig, events, seed_number, say)


def fuzz_on(rig: Rig, events: int, seed_number: int, say: Callable[[str], None]) -> FuzzCount:
    """The same on a platform that runs; what its topic held before is left out of the counts."""
    began = time.monotonic()
    log = rig.settings.state_dir / "log" / "landing.log"
    rig.wait("the landing", lambda: log.is_file() and _starts(log) > 0, STALL_SECONDS)
    starts, before = _starts(log), rig.end_offsets()
    mutated = _produce(rig, events, seed_number)
    ends = rig.end_offsets()
    total = sum(ends.values())
    say(f"{sum(ends.values()) - sum(before.values())} produced, {mutated} mutated")
    last, since = -1, time.monotonic()
    while (covered := rig.covered()) < total:
        if covered != last:
            last, since = covered, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            raise ChaosError(f"landing stands at {covered} of {total}")
        time.sleep(0.2)
    return _account(rig, before, ends, mutated, _starts(log) - starts, began)


def _produce(rig: Rig, events: int, seed_number: int) -> int:
    failed: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": rig.settings.kafka.servers,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "log_level": 0,
        }
    )
    mutated = 0
    for value, is_mutant in fuzzed_events(events, seed_number):
        mutated += is_mutant
        while True:
            try:
                producer.produce(
                    rig.topic, value, on_delivery=lambda e, _: failed.append(str(e)) if e else None
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120) or failed:
        raise ChaosError(f"the broker did not take every event: {failed[:3]}")
    return mutated


def _account(
    rig: Rig,
    before: dict[int, int],
    ends: dict[int, int],
    mutated: int,
    restarts: int,
    began: float,
) -> FuzzCount:
    known = ", ".join(f"'{c}'" for c in ErrorClass)
    where = " OR ".join(f"(p = {p} AND o >= {first})" for p, first in before.items())
    rows = rig.client().query(
        "SELECT class, count() FROM (SELECT _partition AS p, _offset AS o, '' AS class "
        "FROM raw.events WHERE _topic = {t:String} UNION ALL SELECT partition, offset, "
        "error_class FROM raw.dead_letters WHERE topic = {t:String}) "
        f"WHERE {where} GROUP BY class",
        parameters={"t": rig.topic},
    )
    counts = {str(name): int(n) for name, n in rows.result_rows}
    distinct = rig.client().query(
        "SELECT count(), uniqExact(p, o) FROM (SELECT _partition AS p, _offset AS o "
        "FROM raw.events WHERE _topic = {t:String} UNION ALL SELECT partition, offset "
        "FROM raw.dead_letters WHERE topic = {t:String} AND "
        f"error_class IN ({known})) WHERE {where}",
        parameters={"t": rig.topic},
    )
    accounted, unique = (int(v) for v in distinct.result_rows[0])
    produced = sum(ends.values()) - sum(before.values())
    landed = counts.pop("", 0)
    return FuzzCount(
        produced,
        mutated,
        landed,
        sum(counts.values()),
        abs(produced - unique) + abs(accounted - unique),
        restarts,
        dict(sorted(counts.items())),
        round(time.monotonic() - began, 1),
    )


def _starts(log: Path) -> int:
    """How often the stream was started, from the landing's log."""
    return log.read_text(errors="replace").count('"message": "landing"')
