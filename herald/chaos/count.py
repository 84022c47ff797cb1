"""The comparison after a fault: what the broker holds against what the warehouse holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from herald.live.recount import check_rollups

MARGIN = 50_000
"""Offsets before the last count that are compared row by row again; older ones by their sum."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one comparison found; all zero is right.

    Attributes:
        produced: offsets that the broker gave out.
        stored, dead_lettered: rows of `raw.events` and `raw.dead_letters`.
        lost: offsets in neither table, acknowledged offsets that the broker no longer has, and
            rows that are another event than the one produced there.
        duplicated: rows beyond one for each offset, over both tables.
        rollup_difference: buckets where a rollup and its recount disagree.
        rollup_at_cut: buckets at the edge of what a table still takes, where a retry's later
            `landed_at` may judge an event otherwise (docs/decisions/0100); no error.
    """

    produced: int
    stored: int
    dead_lettered: int
    lost: int
    duplicated: int
    rollup_difference: int
    rollup_at_cut: int = 0

    @property
    def is_right(self) -> bool:
        """Nothing lost, nothing doubled, rollups equal to the recount."""
        return not (self.lost or self.duplicated or self.rollup_difference)


def rollup_difference(client: Client) -> tuple[int, int]:
    """(buckets that differ, buckets that differ at a cut), over every rollup and all of time."""
    found = check_rollups(client, settle_seconds=2.0)
    return sum(r.differences for r in found), sum(r.boundary for r in found)


class Comparison:
    """Compares a topic with the tables again and again; remembers how far it has looked."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._checked: dict[int, int] = {}

    def compare(
        self, client: Client, ends: Mapping[int, int], delivered: Mapping[int, Mapping[int, int]]
    ) -> Count:
        """Compare facts with the broker and with the producer's ledger.

        Args:
            client: of the warehouse.
            ends: next offset of each partition, from the broker, nothing in flight.
            delivered: of each partition, the number of the event at each acknowledged offset.
        """
        parameters = {"t": self._topic}
        stored, dead = (
            int(client.query(sql, parameters=parameters).result_rows[0][0])
            for sql in (
                "SELECT count() FROM raw.events WHERE _topic = {t:String}",
                "SELECT count() FROM raw.dead_letters WHERE topic = {t:String}",
            )
        )
        lost = sum(sum(o >= ends.get(p, 0) for o in offsets) for p, offsets in delivered.items())
        doubled, rows = 0, 0
        firsts = {p: max(0, self._checked.get(p, 0) - MARGIN) for p in ends}
        for partition, first in firsts.items():
            window = self._window(client, partition, first)
            known = delivered.get(partition, {})
            lost += sum(
                offset not in window or window[offset][0] not in {"", f"m{known.get(offset, '')}"}
                for offset in range(first, ends[partition])
            )
            doubled += sum(n - 1 for _, n in window.values())
            rows += sum(n for _, n in window.values())
        # what lies before the windows was right when it was looked at: its sum tells
        older = stored + dead - rows - sum(firsts.values())
        self._checked = dict(ends)
        return Count(
            sum(ends.values()),
            stored,
            dead,
            lost + max(0, -older),
            doubled + max(0, older),
            *rollup_difference(client),
        )

    def _window(self, client: Client, partition: int, first: int) -> dict[int, tuple[str, int]]:
        """By offset: the message id of the row, and how many rows there are."""
        rows = client.query(
            "SELECT o, any(m), count() FROM (SELECT _offset AS o, message_id AS m FROM raw.events "
            "WHERE _topic = {t:String} AND _partition = {p:UInt16} AND _offset >= {f:UInt64} "
            'UNION ALL SELECT offset, extract(value, \'"message_id":"(m[0-9]+)"\') '
            "FROM raw.dead_letters WHERE topic = {t:String} AND partition = {p:UInt16} "
            "AND offset >= {f:UInt64}) GROUP BY o",
            parameters={"t": self._topic, "p": partition, "f": first},
        ).result_rows
        return {int(o): (str(m), int(n)) for o, m, n in rows}
