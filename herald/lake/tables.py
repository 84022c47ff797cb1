"""The tables of the lake, their Iceberg schemas and what they hold.

Columns of events and references come from the contract; those of the ledger and of dead letters
are listed here once, and a test compares them with the warehouse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from herald.contract.references import REFERENCES
from herald.contract.schemas import StoredField, event_fields, reference_fields
from herald.settings import Topics

NAMESPACE = "raw"
_TIME = pa.timestamp("us", tz="UTC")
_WIDENED = {"uint8": pa.int32(), "uint16": pa.int32(), "uint32": pa.int64(), "uint64": pa.int64()}
"""Iceberg knows no unsigned numbers; offsets stay below 2^63."""

_LETTERS = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "key": pa.binary(),
    "value": pa.binary(),
    "error_class": pa.string(),
    "error_field": pa.string(),
    "error_message": pa.string(),
    "contract_version": pa.string(),
    "produced_at": _TIME,
    "landed_at": _TIME,
}
_LEDGER = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "first_offset": pa.int64(),
    "last_offset": pa.int64(),
    "rows_stored": pa.int64(),
    "rows_dead_lettered": pa.int64(),
    "bytes": pa.int64(),
    "min_occurred_at": _TIME,
    "max_occurred_at": _TIME,
    "batch_id": pa.int64(),
    "insert_seconds": pa.float64(),
    "job": pa.string(),
    "landed_at": _TIME,
}


@dataclass(frozen=True)
class LakeTable:
    """One table of the lake, a copy of the warehouse's `raw.<name>`.

    keys: names of its columns of topic, partition and (first) offset.
    order: how rows lie in a file, so that dictionaries and runs compress them.
    hour: the column whose hour is the partition; None for small tables.
    """

    name: str
    schema: pa.Schema
    keys: tuple[str, str, str]
    order: tuple[str, ...]
    hour: str | None

    @property
    def source(self) -> str:
        """Its original in the warehouse."""
        return f"raw.{self.name}"


def _type(field: StoredField) -> pa.DataType:
    kind = field.column.arrow
    if kind in _WIDENED:
        return _WIDENED[kind]
    return {"dictionary": pa.string(), "timestamp[ms]": _TIME}.get(kind, field.arrow_type)


def _schema(fields: tuple[StoredField, ...]) -> pa.Schema:
    return pa.schema([pa.field(f.name, _type(f)) for f in fields])


_LANDING = ("_topic", "_partition", "_offset")
EVENTS = LakeTable(
    "events",
    _schema(event_fields()),
    _LANDING,
    ("tenant_id", "campaign_id", "channel", "event_type", "occurred_at", *_LANDING),
    "occurred_at",
)
DEAD_LETTERS = LakeTable(
    "dead_letters",
    pa.schema(list(_LETTERS.items())),
    ("topic", "partition", "offset"),
    ("topic", "partition", "offset"),
    "landed_at",
)
LEDGER = LakeTable(
    "landed_ranges",
    pa.schema(list(_LEDGER.items())),
    ("topic", "partition", "first_offset"),
    ("topic", "partition", "first_offset"),
    None,
)
REFERENCE_TABLES = tuple(
    LakeTable(model.table, _schema(reference_fields(model)), _LANDING, _LANDING, None)
    for model in REFERENCES
)
TABLES = (EVENTS, DEAD_LETTERS, *REFERENCE_TABLES, LEDGER)
"""In the order of writing: a range is in the ledger only when its rows are there."""


def table_of(topics: Topics) -> Mapping[str, LakeTable]:
    """Which table the rows of a topic are in; a topic that is not named holds events."""
    return {getattr(topics, table.name): table for table in REFERENCE_TABLES}
