"""The warehouse's raw tables rebuilt from the lake, so that landing goes on where the lake ends.

Ledger first: a rebuild that dies leaves ranges marked as landed whose rows are missing, which the
next rebuild mends; rows without their ledger would be landed a second time.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client

from herald.lake.intervals import Offsets
from herald.lake.store import LakeError
from herald.lake.sync import Lake, landed_ranges
from herald.lake.tables import LEDGER, TABLES, LakeTable
from herald.settings import Settings
from spark_jobs.jobs.land_events import heartbeat_file
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink

BLOCK_ROWS = 100_000
HEARTBEAT_SECONDS = 10
Progress = Callable[[str, int, int], None]
"""Told the table, the rows so far and of how many."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Rows written by table, and the tables that views filled from them."""

    rows: dict[str, int]
    derived: tuple[str, ...]


def rebuild_from_lake(
    client: Client,
    lake: Lake,
    settings: Settings,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Rebuilt:
    """Write every raw table and its rollups anew. Landing must not run.

    Args:
        client: a writer.
        lake: where the rows are.
        settings: name the warehouse and the state folder, whose checkpoint is removed.
        replace: empty tables that hold rows.
        progress: told after each block.

    Raises:
        LakeError: there are rows and `replace` is not given, the lake is empty, or the warehouse
            landed ranges that the lake does not have.
    """
    known = lake.offsets(LEDGER)
    if not known.items():
        raise LakeError("the lake holds no landed range: nothing to rebuild from")
    missing = [r for r in landed_ranges(client) if not known.covers(*r.key)]
    if missing:
        raise LakeError(
            f"{len(missing)} landed ranges are not in the lake and would be lost: run "
            "`herald lake sync` first"
        )
    derived = _derived(client)
    full = [t for t in (*(t.source for t in TABLES), *derived) if _rows(client, t)]
    if full and not replace:
        raise LakeError(f"{', '.join(full)}: hold rows; empty them and go on with --replace")
    for table in full:
        client.command(f"TRUNCATE TABLE {table} SYNC")
    shutil.rmtree(settings.state_dir / "landing", ignore_errors=True)  # the ledger has the truth
    sink = ClickHouseSink(Address.of(settings.warehouse))
    run = uuid.uuid4().hex
    try:
        rows = {
            of.source: _restore(sink, lake, of, known, run, progress)
            for of in (LEDGER, *(t for t in TABLES if t is not LEDGER))
        }
    finally:
        sink.close()
    return Rebuilt(rows, derived)


def landing_runs(settings: Settings) -> bool:
    """Whether a landing job of this state folder gave a sign of life in the last 10 s."""
    heartbeat = heartbeat_file(settings)
    return heartbeat.is_file() and time.time() - heartbeat.stat().st_mtime < HEARTBEAT_SECONDS


def _restore(
    sink: ClickHouseSink,
    lake: Lake,
    of: LakeTable,
    known: Offsets,
    run: str,
    progress: Progress | None,
) -> int:
    table = lake.table(of)
    snapshot = table.current_snapshot()
    if snapshot is None:
        return 0
    summary = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    total = int(summary.get("total-records") or 0)
    # committed by a sync that died before the ledger's commit: landing will land them again
    ahead = lake.offsets(of) != known
    done = 0
    batches = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow_batch_reader()
    for number, block in enumerate(_blocks(batches, of.schema)):
        rows = block.filter(_inside(block, of, known)) if ahead else block
        if rows.num_rows:
            # a token of this run only: an old one might be known and its rows dropped
            sink.insert(of.source, rows, token=f"rebuild {run} {of.name} {number}")
        done += rows.num_rows
        if progress is not None:
            progress(of.source, done, total)
    return done


def _blocks(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches joined to blocks for one insert each."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= BLOCK_ROWS:
            yield pa.Table.from_batches(waiting).cast(schema)
            waiting, rows = [], 0
    if rows:
        yield pa.Table.from_batches(waiting).cast(schema)


def _inside(block: pa.Table, of: LakeTable, known: Offsets) -> pa.ChunkedArray:
    topics, partitions, offsets = (block[name] for name in of.keys)
    mask = pa.chunked_array([pa.array([False] * block.num_rows)])
    for topic, partition, intervals in known.items():
        here = pc.and_(pc.equal(topics, topic), pc.equal(partitions, partition))
        for first, last in intervals:
            between = pc.and_(pc.greater_equal(offsets, first), pc.less_equal(offsets, last))
            mask = pc.or_(mask, pc.and_(here, between))
    return mask


def _derived(client: Client) -> tuple[str, ...]:
    """Tables that materialized views fill from raw tables, one view after the other."""
    rows = client.query(
        "SELECT create_table_query FROM system.tables WHERE engine = 'MaterializedView'"
    ).result_rows
    views = [
        (match[1].replace("`", ""), str(sql))
        for (sql,) in rows
        if (match := re.search(r"\bTO ([\w.`]+)", str(sql)))
    ]
    sources = {of.source for of in TABLES}
    found: dict[str, None] = {}
    for _ in views:
        for target, sql in views:
            read = {name.replace("`", "") for name in re.findall(r"\b(?:FROM|JOIN) ([\w.`]+)", sql)}
            if read & (sources | found.keys()):
                found.setdefault(target)
    return tuple(found)


def _rows(client: Client, table: str) -> int:
    return int(client.query(f"SELECT count() FROM {table}").first_row[0])
