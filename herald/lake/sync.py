"""Warehouse to lake, each landed range exactly once.

What of each table is in the lake stands in a property of that table, changed by the very commit
that adds the rows: killed before it, nothing happened (files without a commit are not read);
killed after it, the next run sees the ranges. Two runs at a time: Iceberg lets one of two commits
on the same snapshot fail, and commits are never retried without reading the property again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.table import Table
from pyiceberg.transforms import HourTransform

from herald.lake.intervals import Offsets
from herald.lake.store import LakeError
from herald.lake.tables import DEAD_LETTERS, EVENTS, LEDGER, NAMESPACE, TABLES, LakeTable, table_of
from herald.settings import Settings

PROPERTY = "herald.offsets"
PROPERTIES = {
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # a commit that lost against another must be judged anew, or its ranges would be in twice
    "commit.retry.num-retries": "0",
}
_AT = "DateTime64(3, 'UTC')"
Step = Callable[[str, str], None]
"""Told `before_commit` and `after_commit` with the name of the table."""


@dataclass(frozen=True, slots=True)
class LandedRange:
    """A range of the ledger of the warehouse."""

    topic: str
    partition: int
    first: int
    last: int
    stored: int
    dead_lettered: int
    min_occurred_at: datetime | None
    max_occurred_at: datetime | None

    @property
    def key(self) -> tuple[str, int, int, int]:
        """As `Offsets` takes it."""
        return self.topic, self.partition, self.first, self.last


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync wrote."""

    ranges: int
    rows: int
    commits: int


def _no_step(_step: str, _table: str) -> None:
    return None


class Lake:
    """The tables of the lake."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings

    def table(self, of: LakeTable) -> Table:
        """The Iceberg table as it is now, made when it is missing."""
        try:
            table = self._catalog.load_table((NAMESPACE, of.name))
        except NoSuchTableError:
            self._catalog.create_namespace_if_not_exists(NAMESPACE)
            try:
                table = self._catalog.create_table(
                    (NAMESPACE, of.name), of.schema, properties=PROPERTIES
                )
            except TableAlreadyExistsError:
                table = self._catalog.load_table((NAMESPACE, of.name))
        if of.hour is not None and table.spec().is_unpartitioned():
            with table.update_spec() as spec:
                spec.add_field(of.hour, HourTransform(), f"{of.hour}_hour")
        return table

    def offsets(self, of: LakeTable) -> Offsets:
        """Offsets whose rows are in the lake."""
        return Offsets.parse(self.table(of).properties.get(PROPERTY, ""))

    def sync(self, client: Client, *, step: Step = _no_step) -> Synced:
        """Copy every landed range that is not in the lake yet.

        Args:
            client: a writer of the warehouse.
            step: told before and after each commit.

        Raises:
            LakeError: a range holds other rows than its ledger says, or another sync was faster.
        """
        total = Synced(0, 0, 0)
        for table in TABLES:
            known = self.offsets(table)
            for ranges in _groups(self.waiting(client, table, known), self._settings):
                rows = self._copy(client, table, ranges, step)
                total = Synced(total.ranges + len(ranges), total.rows + rows, total.commits + 1)
        return total

    def waiting(self, client: Client, table: LakeTable, known: Offsets) -> list[LandedRange]:
        """Landed ranges whose rows of this table are not in the lake yet."""
        found = [r for r in landed_ranges(client) if self._holds(table, r)]
        if table is LEDGER:
            parts = [(t, self.offsets(t)) for t in TABLES if t is not LEDGER]
            found = [
                r for r in found
                if all(o.covers(*r.key) for t, o in parts if self._holds(t, r))
            ]  # fmt: skip
        waiting = [r for r in found if not known.covers(*r.key)]
        for r in waiting:
            if known.overlaps(*r.key):
                raise LakeError(
                    f"{table.name}: range {r.topic}/{r.partition}/{r.first}-{r.last} lies across "
                    "what the lake has: the topic or the ledger was made anew. Give the topic a "
                    "new name, or the lake a new bucket (HERALD_LAKE__BUCKET)"
                )
        return waiting

    def _holds(self, table: LakeTable, landed: LandedRange) -> bool:
        if table in (LEDGER, DEAD_LETTERS):
            return True
        return table_of(self._settings.kafka.topics).get(landed.topic, EVENTS) is table

    def _copy(
        self, client: Client, table: LakeTable, ranges: Sequence[LandedRange], step: Step
    ) -> int:
        target = self.table(table)
        known = Offsets.parse(target.properties.get(PROPERTY, ""))
        expected = _expected(table, ranges)
        rows = read_ranges(client, table, ranges) if expected else table.schema.empty_table()
        _check(table, ranges, rows.num_rows, expected)
        try:
            with target.transaction() as transaction:
                if rows.num_rows:
                    transaction.append(rows)
                new = known.with_ranges(r.key for r in ranges)
                transaction.set_properties({PROPERTY: new.text()})
                step("before_commit", table.name)
        except CommitFailedException as error:
            raise LakeError(
                f"{table.name}: another sync was faster; nothing was written, the next run goes on"
            ) from error
        step("after_commit", table.name)
        return int(rows.num_rows)


def landed_ranges(client: Client) -> list[LandedRange]:
    """The ledger of the warehouse, in order."""
    rows = client.query(
        "SELECT topic, `partition`, first_offset, last_offset, any(rows_stored), "
        "any(rows_dead_lettered), min(min_occurred_at), max(max_occurred_at) "
        "FROM raw.landed_ranges GROUP BY topic, `partition`, first_offset, last_offset "
        "ORDER BY topic, `partition`, first_offset"
    ).result_rows
    return [LandedRange(*row) for row in rows]


def read_ranges(client: Client, table: LakeTable, ranges: Sequence[LandedRange]) -> pa.Table:
    """The warehouse's rows of some ranges, sorted as a file holds them."""
    topic, partition, offset = table.keys
    columns = ", ".join(_expression(f) for f in table.schema)
    conditions = " OR ".join(
        f"({topic} = {_quoted(t)} AND {partition} = {p} AND {offset} BETWEEN {a} AND {b})"
        for t, p, a, b in _joined(ranges)
    )
    lows = [r.min_occurred_at for r in ranges]
    highs = [r.max_occurred_at for r in ranges]
    if table is EVENTS and None not in lows and None not in highs:  # leaves out whole months
        conditions = f"({conditions}) AND occurred_at BETWEEN {{low:{_AT}}} AND {{high:{_AT}}}"
    found = client.query_arrow(
        f"SELECT {columns} FROM {table.source} WHERE {conditions} "
        f"ORDER BY {', '.join(table.order)}",
        parameters={"low": _extreme(min, lows), "high": _extreme(max, highs)},
        settings={"output_format_arrow_string_as_string": "1", "max_query_size": "10000000"},
        use_strings=True,
    )
    return found.cast(table.schema)


def _extreme(choose: Callable[..., datetime], times: Sequence[datetime | None]) -> str:
    known = [t for t in times if t is not None]
    return choose(known).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if known else ""


def _expression(field: pa.Field) -> str:
    name = f"`{field.name}`"
    if field.name == "event_id":
        return f"toString({name}) AS {name}"
    return name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _joined(ranges: Sequence[LandedRange]) -> Iterator[tuple[str, int, int, int]]:
    for topic, partition, intervals in Offsets().with_ranges(r.key for r in ranges).items():
        for first, last in intervals:
            yield topic, partition, first, last


def _groups(ranges: Sequence[LandedRange], settings: Settings) -> Iterator[list[LandedRange]]:
    """Ranges of about `lake.sync_rows` rows together: one commit, and the memory it takes."""
    group: list[LandedRange] = []
    rows = 0
    for landed in ranges:
        if group and rows + landed.stored + landed.dead_lettered > settings.lake.sync_rows:
            yield group
            group, rows = [], 0
        group.append(landed)
        rows += landed.stored + landed.dead_lettered
    if group:
        yield group


def _expected(table: LakeTable, ranges: Sequence[LandedRange]) -> int:
    if table is LEDGER:
        return len(ranges)
    return sum(r.dead_lettered if table is DEAD_LETTERS else r.stored for r in ranges)


def _check(table: LakeTable, ranges: Sequence[LandedRange], found: int, expected: int) -> None:
    if found != expected:
        first = ranges[0]
        raise LakeError(
            f"{table.source}: {found} rows in {len(ranges)} ranges from "
            f"{first.topic}/{first.partition}/{first.first} on, the ledger says {expected}; the "
            "warehouse lost, erased or doubled rows: compare it with raw.landed_ranges first"
        )
