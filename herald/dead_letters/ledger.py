"""What replays are about to send and have sent, in the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from herald.dead_letters.selection import REPLAYED, LetterId, Selection

_SETTINGS = {"async_insert": 0}


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter to be replayed."""

    letter: LetterId
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """One replay. principal: who asked for it."""

    run_id: str
    fix_up: str
    principal: str


@dataclass(frozen=True, slots=True)
class OpenClaim:
    """A letter that a run was about to send and is not known to have sent."""

    run: Run
    letter: LetterId
    end_offset: int


class ReplayLedger:
    """Letters, claims and replays."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def count(self, selection: Selection) -> tuple[int, int]:
        """How many letters are selected, and how many of them were sent before."""
        where, parameters = selection.where()
        total, done = self._client.query(
            f"SELECT count(), countIf({REPLAYED}) FROM raw.dead_letters WHERE {where}",
            parameters=parameters,
        ).result_rows[0]
        return int(total), int(done)

    def letters(
        self, selection: Selection, *, again: bool, after: LetterId | None, limit: int
    ) -> list[Letter]:
        """The next letters by topic, partition and offset."""
        where, parameters = selection.where()
        if not again:
            where += f" AND NOT ({REPLAYED})"
        if after is not None:
            where += (
                " AND (topic, `partition`, offset) > "
                "({after_topic:String}, {after_partition:UInt16}, {after_offset:UInt64})"
            )
            parameters |= {
                "after_topic": after.topic,
                "after_partition": after.partition,
                "after_offset": after.offset,
            }
        rows = self._client.query(
            f"SELECT topic, `partition`, offset, key, value FROM raw.dead_letters WHERE {where} "
            f"ORDER BY topic, `partition`, offset LIMIT {int(limit)}",
            parameters=parameters,
            column_formats={"key": "bytes", "value": "bytes"},
        ).result_rows
        return [
            Letter(LetterId(str(t), int(p), int(o)), bytes(k), bytes(v)) for t, p, o, k, v in rows
        ]

    def claim(self, run: Run, ends: Mapping[LetterId, int]) -> None:
        """Write down what is about to be sent, and where its partition ends before."""
        self._claims(run, ends, closed=False)

    def close(self, claims: Sequence[OpenClaim]) -> None:
        """These were looked up, and were not sent."""
        for run in {c.run for c in claims}:
            self._claims(run, {c.letter: c.end_offset for c in claims if c.run == run}, closed=True)

    def sent(self, run: Run, places: Mapping[LetterId, tuple[int, int]]) -> None:
        """The broker has these, at (partition, offset)."""
        if not places:
            return
        now = datetime.now(UTC)
        self._client.insert(
            "raw.dead_letter_replays",
            [
                [x.topic, x.partition, x.offset, run.run_id, run.fix_up, now, *place, run.principal]
                for x, place in places.items()
            ],
            column_names=[
                "topic",
                "partition",
                "offset",
                "run_id",
                "fix_up",
                "replayed_at",
                "new_partition",
                "new_offset",
                "principal",
            ],
            settings=_SETTINGS,
        )

    def open_claims(self) -> list[OpenClaim]:
        """What earlier runs were about to send, and nobody knows whether they did."""
        rows: list[Any] = self._client.query(
            "SELECT run_id, any(fix_up), any(principal), topic, `partition`, offset, "
            "min(end_offset) FROM raw.dead_letter_claims "
            "WHERE (run_id, topic, `partition`, offset) NOT IN "
            "(SELECT run_id, topic, `partition`, offset FROM raw.dead_letter_replays) "
            "GROUP BY run_id, topic, `partition`, offset HAVING NOT max(is_closed)"
        ).result_rows
        return [
            OpenClaim(Run(str(r), str(f), str(w)), LetterId(str(t), int(p), int(o)), int(end))
            for r, f, w, t, p, o, end in rows
        ]

    def _claims(self, run: Run, ends: Mapping[LetterId, int], *, closed: bool) -> None:
        now = datetime.now(UTC)
        self._client.insert(
            "raw.dead_letter_claims",
            [
                [
                    run.run_id,
                    x.topic,
                    x.partition,
                    x.offset,
                    end,
                    run.fix_up,
                    run.principal,
                    closed,
                    now,
                ]
                for x, end in ends.items()
            ],
            column_names=[
                "run_id",
                "topic",
                "partition",
                "offset",
                "end_offset",
                "fix_up",
                "principal",
                "is_closed",
                "claimed_at",
            ],
            settings=_SETTINGS,
        )
