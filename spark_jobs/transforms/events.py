"""The fast path: Kafka values to Arrow columns of `raw.events`, validated as vectors.

polars parses all rows at once, against only the columns seen so far. What it cannot see (unknown
and doubled keys, numbers where strings belong, nulls) shows in two counts over the raw bytes: every
key at top level leaves one `":`, every string value one `":"`. A row whose counts differ from the
values found, or that any rule doubts, goes to `spark_jobs.transforms.judging`, one by one. So this
module never refuses a row by itself: it accepts what is certain, and the exact path decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from herald.contract.events import CONTRACT_VERSION
from herald.contract.schemas import StoredField
from spark_jobs.transforms.columns import ALWAYS, FIELDS, PRODUCED, build
from spark_jobs.transforms.judging import Limits, RejectedError, judge_event
from spark_jobs.transforms.lines import Lines

Mask = npt.NDArray[np.bool_]

_POLARS: dict[str, Any] = {
    "dictionary": pl.String,
    "string": pl.String,
    "bool": pl.Boolean,
    "uint8": pl.Int64,
    "decimal": pl.Float64,
    "timestamp[ms]": pl.String,
    "list<string>": pl.List(pl.String),
}
_STRINGS = frozenset(
    n
    for n, f in PRODUCED.items()
    if f.column.arrow in {"dictionary", "string", "timestamp[ms]"} and n != "properties"
)
# an escaped quote, half a surrogate pair or space before a colon would spoil the counts, a line
# break the lines; nearly no event has one
_DOUBTFUL = ['\\"', "\\ud", "\\uD", "\\u0022", "\r"]
_KEY_APART = r'"[ \t]+:'
_REASONS = r'"suspected_bot_reasons":\s?\[("[^"\\]{1,64}"(,\s?)?)+\]'
_UNFAITHFUL = r"\\|[0-9.]{16}"
_MANY_DOUBTS = 200
"""One doubtful row in so many makes a look at what they carry worth while."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that becomes a dead letter: where it was in the batch, and why."""

    position: int
    error_class: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """Outcome of one batch: stored columns, the position of each stored row, and the refused."""

    table: pa.Table
    positions: npt.NDArray[np.int64]
    rejections: list[Rejection]
    suspects: int


class EventParser:
    """Parses batches; remembers which columns occur, so that absent ones cost nothing."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seen = {n: _POLARS[f.column.arrow] for n, f in PRODUCED.items() if n in ALWAYS}
        self._learned = False

    def parse(self, values: Sequence[bytes], now_ms: int) -> Parsed:
        """Parse and validate. The result depends on the arguments only."""
        if not self._learned:
            self._learn(values[:: max(1, len(values) // 4_000)])
        lines = Lines.of(values)
        usable = self._usable(lines)
        frame, sure = self._parsed(lines, usable)
        doubtful = np.flatnonzero(usable & ~sure)
        if len(doubtful) > len(values) // _MANY_DOUBTS and self._learn(
            [values[i] for i in doubtful[:: max(1, len(doubtful) // 4_000)].tolist()]
        ):  # producers send columns that were not seen before
            frame, sure = self._parsed(lines, usable)
        table, valid = build(frame, now_ms, self._limits)
        return self._finish(values, table, sure & valid, now_ms)

    def _parsed(self, lines: Lines, usable: Mask) -> tuple[pl.DataFrame, Mask]:
        """Values by column, and the rows that held nothing else."""
        frame = self._read(lines, usable)
        return frame, usable & self._counts_agree(frame, lines.text)

    def _learn(self, sample: Sequence[bytes]) -> bool:
        """Add the columns of a sample to those that are parsed; says whether any was new."""
        decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        known = len(self._seen)
        for value in sample:
            try:
                names = decode(value).keys() & PRODUCED.keys()
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            for name in names:
                self._seen.setdefault(name, _POLARS[PRODUCED[name].column.arrow])
        self._seen = {n: self._seen[n] for n in PRODUCED if n in self._seen}
        self._learned = True
        return len(self._seen) > known

    def _usable(self, lines: Lines) -> Mask:
        """Rows that can stand on a line of their own and look like objects."""
        text = lines.text
        usable: Mask = (text.str.starts_with("{") & text.str.ends_with("}\n")).to_numpy().copy()
        if lines.sizes.max(initial=0) > self._limits.max_event_bytes:
            usable &= lines.sizes <= self._limits.max_event_bytes
        usable &= ~text.str.contains_any(_DOUBTFUL).to_numpy()
        if lines.blob.count(b"\n") > len(lines.sizes):
            usable &= (text.str.count_matches("\n", literal=True) == 1).to_numpy()
        apart = text.str.contains(" :", literal=True)  # in French also text: look closer at those
        if b"\t" in lines.blob:
            apart |= text.str.contains("\t:", literal=True)
        if apart.any():
            found = apart.to_numpy()
            usable[found] &= ~text.filter(apart).str.contains(_KEY_APART).to_numpy()
        return usable

    def _read(self, lines: Lines, usable: Mask) -> pl.DataFrame:
        """Parse; a row that is no JSON is taken out of `usable` and read as an empty object."""
        try:
            return self._parse_lines(lines.only(usable))
        except pl.exceptions.PolarsError:
            # one bad row stops the parser: find them all, then parse again
            for position in np.flatnonzero(usable).tolist():
                usable[position] = _is_json(lines.values[position])
        try:
            return self._parse_lines(lines.only(usable))
        except pl.exceptions.PolarsError:
            # the two parsers disagree about a row: let the exact path judge this batch
            usable[:] = False
            return self._parse_lines(lines.only(usable))

    def _parse_lines(self, lines: bytes) -> pl.DataFrame:
        return pl.read_ndjson(lines, schema=self._seen, ignore_errors=True)

    def _counts_agree(self, frame: pl.DataFrame, text: pl.Series) -> Mask:
        """Rows whose raw bytes hold exactly the keys and string values that were parsed."""
        keys = text.str.count_matches('":', literal=True).to_numpy().astype(np.int16)
        strings = text.str.count_matches('":"', literal=True).to_numpy().astype(np.int32)
        if (spaced := text.str.contains('": "', literal=True)).any():
            strings = (
                strings
                + (text.str.count_matches('": "', literal=True).to_numpy().astype(np.int32))
                * spaced.to_numpy()
            )
        for name in frame.columns:
            column = frame[name]
            absent = column.null_count()
            if absent == len(column):
                continue
            here = np.int8(1) if not absent else column.is_not_null().to_numpy().view(np.int8)
            keys -= here
            if name in _STRINGS:
                strings -= here
        agree = np.ones(len(text), dtype=np.bool_)
        if "properties" in frame.columns and frame["properties"].null_count() < len(frame):
            properties = frame["properties"].fill_null("")
            keys -= properties.str.count_matches('":', literal=True).to_numpy().astype(np.int32)
            strings -= (
                properties.str.count_matches('": "', literal=True).to_numpy().astype(np.int32)
            )
            # polars writes an object back without its escapes, and long numbers as doubles
            given = frame["properties"].is_not_null().to_numpy()
            odd = text.filter(pl.Series(given)).str.contains(_UNFAITHFUL).to_numpy()
            agree[given] &= ~odd
            agree &= ~given | properties.str.starts_with("{").to_numpy()
        reasons = "suspected_bot_reasons"
        if reasons in frame.columns:
            filled = (frame[reasons].list.len() > 0).fill_null(value=False).to_numpy()
            if filled.any():
                agree[filled] &= text.filter(pl.Series(filled)).str.contains(_REASONS).to_numpy()
        result: Mask = agree & (keys == 0) & (strings == 0)
        return result

    def _finish(self, values: Sequence[bytes], table: pa.Table, sure: Mask, now_ms: int) -> Parsed:
        """Judge the rest one by one and join both parts."""
        positions = np.flatnonzero(sure)
        if len(positions) == len(values):
            return Parsed(table, positions, [], 0)
        table = table.filter(pa.array(sure))
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        rejections: list[Rejection] = []
        suspects = np.flatnonzero(~sure).tolist()
        for position in suspects:
            try:
                rows.append(judge_event(values[position], now_ms, self._limits))
                kept.append(position)
            except RejectedError as error:
                rejections.append(
                    Rejection(position, error.error_class.value, error.field, error.message)
                )
        if rows:
            table = _join(table, _rows_table(rows, table.column_names))
            positions = np.concatenate([positions, np.array(kept, dtype=np.int64)])
        return Parsed(table, positions, rejections, len(suspects))


def _rows_table(rows: Sequence[dict[str, Any]], needed: Collection[str]) -> pa.Table:
    """Rows of the exact path as columns: those needed, and those that hold more than defaults."""
    arrays = {}
    for name in rows[0]:
        if name in needed or any(row[name] for row in rows):
            field = FIELDS[name]
            array = pa.array([row[name] for row in rows], _plain(field))
            low = field.column.arrow == "dictionary"
            arrays[name] = array.dictionary_encode() if low else array
    return pa.table(arrays)


def _plain(field: StoredField) -> pa.DataType:
    kind = field.column.arrow
    return pa.large_string() if kind in {"dictionary", "string"} else field.arrow_type


def _join(fast: pa.Table, exact: pa.Table) -> pa.Table:
    """Both parts under one schema, as one chunk: one insert is one block."""
    for name in exact.column_names:
        if name not in fast.column_names:
            fast = fast.append_column(name, _default(FIELDS[name], fast.num_rows))
    fast = fast.select(exact.column_names).cast(exact.schema)
    return pa.concat_tables([fast, exact]).unify_dictionaries().combine_chunks()


def _default(field: StoredField, rows: int) -> pa.Array:
    """A column of the value that stands for an absent field."""
    kind = field.column.arrow
    if field.column.clickhouse.startswith("Nullable"):
        return pa.nulls(rows, _plain(field))
    if kind == "dictionary":
        value = CONTRACT_VERSION if field.name == "schema_version" else ""
        zeros = pa.array(np.zeros(rows, dtype=np.int32))
        return pa.DictionaryArray.from_arrays(zeros, pa.array([value], pa.large_string()))
    empty: Any = {"bool": False, "uint8": 0, "list<string>": []}.get(kind, "")
    return pa.repeat(pa.scalar(empty, _plain(field)), rows)


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
