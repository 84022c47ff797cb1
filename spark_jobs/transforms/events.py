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
import pyarrow.compute as pc

from herald.contract.events import CONTRACT_VERSION, Event
from herald.contract.schemas import StoredField, event_fields
from herald.contract.vocabulary import EVENT_TYPES, AbortReason
from spark_jobs.transforms.judging import Limits, RejectedError, judge_event

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
_FIELDS: dict[str, StoredField] = {f.name: f for f in event_fields()}
_PRODUCED: dict[str, StoredField] = {n: f for n, f in _FIELDS.items() if n in Event.model_fields}
_REQUIRED = tuple(n for n, f in _PRODUCED.items() if f.required)
_STRINGS = frozenset(
    n
    for n, f in _PRODUCED.items()
    if f.column.arrow in {"dictionary", "string", "timestamp[ms]"} and n != "properties"
)
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)$"
# an escaped quote, half a surrogate pair or space before a colon would spoil the counts, a line
# break the lines; nearly no event has one
_DOUBTFUL = ['\\"', "\\ud", "\\uD", "\\u0022", "\n", "\r"]
_COLON_APART = [" :", "\t:"]
_KEY_APART = r'"[ \t]+:'
_REASONS = r'"suspected_bot_reasons":\s?\[("[^"\\]{1,64}"(,\s?)?)+\]'
_UNFAITHFUL = r"\\|[0-9.]{16}"
_MAX_SURE_MONEY = 1e11
"""Above it a double no longer tells four decimals apart."""


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
        # the version too: its default is not the table's
        names = (*_REQUIRED, "schema_version")
        self._seen: dict[str, Any] = {n: _POLARS[_PRODUCED[n].column.arrow] for n in names}
        self._learned = False

    def parse(self, values: Sequence[bytes], now_ms: int) -> Parsed:
        """Parse and validate. The result depends on the arguments only."""
        if not self._learned:
            self._learn(values[:2_000])
        blob = b"\n".join(values)
        usable, text = self._usable(values)
        frame = self._read(values, blob, usable)
        sure = usable & self._counts_agree(frame, text)
        table, valid = _build(frame, now_ms, self._limits)
        return self._finish(values, table, sure & valid, now_ms)

    def _learn(self, sample: Sequence[bytes]) -> None:
        """Add the columns that a sample of values carries to those that are parsed."""
        decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        for value in sample:
            try:
                names = decode(value).keys() & _PRODUCED.keys()
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            for name in names:
                self._seen.setdefault(name, _POLARS[_PRODUCED[name].column.arrow])
        self._seen = {n: self._seen[n] for n in _PRODUCED if n in self._seen}
        self._learned = True

    def _usable(self, values: Sequence[bytes]) -> tuple[Mask, pl.Series]:
        """Rows that can stand on a line of their own and look like objects, and all as text."""
        raw = pa.array(values, pa.large_binary())
        try:
            text = pl.Series(raw.cast(pa.large_string()))
        except pa.ArrowInvalid:
            text = pl.Series(_without_invalid(values, raw).cast(pa.large_string()))
        usable: Mask = (text.str.starts_with("{") & text.str.ends_with("}")).to_numpy().copy()
        sizes = pc.binary_length(raw)
        if (pc.max(sizes).as_py() or 0) > self._limits.max_event_bytes:
            usable &= sizes.to_numpy() <= self._limits.max_event_bytes
        usable &= ~text.str.contains_any(_DOUBTFUL).to_numpy()
        apart = text.str.contains_any(_COLON_APART)  # in French also text: look closer at those
        if apart.any():
            found = apart.to_numpy()
            usable[found] &= ~text.filter(apart).str.contains(_KEY_APART).to_numpy()
        return usable, text

    def _read(self, values: Sequence[bytes], blob: bytes, usable: Mask) -> pl.DataFrame:
        """Parse; a row that is no JSON is taken out of `usable` and read as an empty object."""
        try:
            return self._parse_lines(blob if usable.all() else _lines(values, usable))
        except pl.exceptions.PolarsError:
            # one bad row stops the parser: find them all, then parse again
            for position in np.flatnonzero(usable).tolist():
                usable[position] = _is_json(values[position])
        try:
            return self._parse_lines(_lines(values, usable))
        except pl.exceptions.PolarsError:
            # the two parsers disagree about a row: let the exact path judge this batch
            usable[:] = False
            return self._parse_lines(_lines(values, usable))

    def _parse_lines(self, lines: bytes) -> pl.DataFrame:
        return pl.read_ndjson(lines, schema=self._seen, ignore_errors=True)

    def _counts_agree(self, frame: pl.DataFrame, text: pl.Series) -> Mask:
        """Rows whose raw bytes hold exactly the keys and string values that were parsed."""
        keys = text.str.count_matches('":', literal=True).to_numpy().astype(np.int32)
        strings = text.str.count_matches('":"', literal=True).to_numpy().astype(np.int32)
        if (spaced := text.str.contains('": "', literal=True)).any():
            strings = (
                strings
                + (text.str.count_matches('": "', literal=True).to_numpy().astype(np.int32))
                * spaced.to_numpy()
            )
        for name in frame.columns:
            column = frame[name]
            if column.null_count() == len(column):
                continue
            here = column.is_not_null().to_numpy()
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
            if len(rows) > len(values) // 20:
                self._learned = False  # producers changed: look at the columns again
            table = _join(table, _rows_table(rows, table.column_names))
            positions = np.concatenate([positions, np.array(kept, dtype=np.int64)])
        return Parsed(table, positions, rejections, len(suspects))


def _rows_table(rows: Sequence[dict[str, Any]], needed: Collection[str]) -> pa.Table:
    """Rows of the exact path as columns: those needed, and those that hold more than defaults."""
    arrays = {}
    for name in rows[0]:
        if name in needed or any(row[name] for row in rows):
            field = _FIELDS[name]
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
            fast = fast.append_column(name, _default(_FIELDS[name], fast.num_rows))
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


def _lines(values: Sequence[bytes], usable: Mask) -> bytes:
    lines = list(values)
    for position in np.flatnonzero(~usable).tolist():
        lines[position] = b"{}"
    return b"\n".join(lines)


def _without_invalid(values: Sequence[bytes], raw: pa.Array) -> pa.Array:
    """Values with those that are no UTF-8 emptied; only what is not ASCII is looked at."""
    ascii_only = pc.string_is_ascii(pc.cast(raw, pa.large_string(), safe=False))
    kept = list(values)
    for position in np.flatnonzero(~ascii_only.to_numpy(zero_copy_only=False).astype(bool)):
        try:
            kept[position].decode("utf-8")
        except UnicodeDecodeError:
            kept[position] = b""
    return pa.array(kept, pa.large_binary())


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _build(frame: pl.DataFrame, now_ms: int, limits: Limits) -> tuple[pa.Table, Mask]:
    """Stored columns of a parsed frame, and which rows keep every rule."""
    valid = np.ones(len(frame), dtype=np.bool_)
    out: dict[str, pa.Array] = {}
    for name in frame.columns:
        field = _PRODUCED[name]
        match field.column.arrow:
            case "timestamp[ms]":
                out[name], ok = _time(frame[name], now_ms, limits)
                valid &= ok
            case "decimal":
                out[name], ok = _money(frame[name], minimum=0.0 if name == "cost" else None)
                valid &= ok
            case "uint8":
                number = frame[name].fill_null(0)
                ok = ((number >= 0) & (number <= 255)).to_numpy()
                valid &= ok
                out[name] = number.clip(0, 255).cast(pl.UInt8).to_arrow()
            case "bool":
                out[name] = frame[name].fill_null(value=False).to_arrow()
            case "list<string>":
                out[name] = frame[name].fill_null([]).to_arrow().cast(pa.list_(pa.string()))
            case "dictionary":
                out[name], ok = _dictionary(frame[name], field)
                valid &= ok
            case _:
                filled = frame[name].fill_null("")
                if name == "properties":
                    filled = filled.replace("{}", "")
                valid &= _short_enough(filled.to_arrow(), field)
                out[name] = filled.to_arrow().cast(pa.large_string())
    valid &= frame["event_id"].str.contains(_UUID).fill_null(value=False).to_numpy()
    valid &= frame["occurred_at"].is_not_null().to_numpy()
    if "channel" in out:  # an empty string is no channel; only an absent one takes the prefix
        valid &= (frame["channel"] != "").fill_null(value=True).to_numpy()
    valid &= _vocabulary(out)
    return pa.table(out), valid


def _dictionary(column: pl.Series, field: StoredField) -> tuple[pa.DictionaryArray, Mask]:
    """Encode, and check each distinct value once."""
    default = CONTRACT_VERSION if field.name == "schema_version" else ""
    encoded = column.fill_null(default).to_arrow().cast(pa.large_string()).dictionary_encode()
    rules = Event.model_fields[field.name]
    limit, least, pattern = _rules(rules.metadata)
    distinct = encoded.dictionary.to_pylist()
    good = np.array(
        [
            (limit is None or len(v) <= limit)
            and len(v) >= least
            and (pattern is None or bool(pc.match_substring_regex(pa.scalar(v), pattern).as_py()))
            for v in distinct
        ],
        dtype=np.bool_,
    )
    if good.all():
        return encoded, np.ones(len(column), dtype=np.bool_)
    return encoded, good[encoded.indices.to_numpy()]


def _rules(metadata: Sequence[Any]) -> tuple[int | None, int, str | None]:
    """Longest and shortest length and pattern that pydantic checks for a string field."""
    limit, least, pattern = None, 0, None
    for rule in metadata:
        limit = getattr(rule, "max_length", None) or limit
        least = getattr(rule, "min_length", None) or least
        pattern = getattr(rule, "pattern", None) or pattern
    return limit, least, pattern


def _short_enough(column: pa.Array, field: StoredField) -> Mask:
    limit, _, _ = _rules(Event.model_fields[field.name].metadata)
    if limit is None:
        return np.ones(len(column), dtype=np.bool_)
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    if longest <= limit:  # bytes are never fewer than characters
        return np.ones(len(column), dtype=np.bool_)
    result: Mask = (
        pc.less_equal(pc.utf8_length(column), limit).to_numpy(zero_copy_only=False).astype(np.bool_)
    )
    return result


def _time(column: pl.Series, now_ms: int, limits: Limits) -> tuple[pa.Array, Mask]:
    given = column.is_not_null().to_numpy()
    parsed = column.str.to_datetime("%+", time_unit="ms", strict=False)
    if parsed.dtype == pl.Datetime("ms"):
        parsed = parsed.dt.replace_time_zone("UTC")
    written = column.str.contains(_TIME).fill_null(value=False).to_numpy()
    ms = parsed.cast(pl.Int64).fill_null(limits.oldest_ms).to_numpy()
    sure = (
        written
        & parsed.is_not_null().to_numpy()
        & (ms >= limits.oldest_ms)
        & (ms <= now_ms + limits.future_tolerance_ms)
    )
    arrow = parsed.to_arrow().cast(pa.timestamp("ms", tz="UTC"))
    return arrow, sure | ~given


def _money(column: pl.Series, minimum: float | None) -> tuple[pa.Array, Mask]:
    given = column.is_not_null().to_numpy()
    value = column.fill_null(0.0).to_numpy()
    sure = np.abs(value) < _MAX_SURE_MONEY
    units = np.rint(np.where(sure, value, 0.0) * 10_000)
    # the double nearest to k/10000 is the one that the text of four decimals was read as
    sure &= units / 10_000 == value
    if minimum is not None:
        sure &= value >= minimum
    return _decimals(units.astype(np.int64), given), sure | ~given


def _decimals(units: npt.NDArray[np.int64], given: Mask) -> pa.Array:
    """Ten-thousandths as decimal128(18, 4): the low word is the number, the high word its sign."""
    words = np.empty((len(units), 2), dtype=np.int64)
    words[:, 0] = units
    words[:, 1] = units >> 63
    validity = pa.py_buffer(np.packbits(given, bitorder="little").tobytes())
    return pa.Array.from_buffers(
        pa.decimal128(18, 4), len(units), [validity, pa.py_buffer(words.tobytes())]
    )


def _vocabulary(out: dict[str, pa.Array]) -> Mask:
    """Known event types, agreeing channel, closed abort reasons; adds `channel` and `action`."""
    types = out["event_type"]
    names = types.dictionary.to_pylist()
    codes = types.indices.to_numpy()
    parts = [n.partition(".") for n in names]
    known = np.array([n in EVENT_TYPES for n in names], dtype=np.bool_)
    valid: Mask = known[codes]
    prefixes = [p[0] for p in parts]
    if "channel" in out:
        given = out["channel"].dictionary.to_pylist()
        agrees = np.array([[c in ("", p) for c in given] for p in prefixes], dtype=np.bool_)
        valid = valid & agrees[codes, out["channel"].indices.to_numpy()]
    out["channel"] = _mapped(prefixes, codes)
    out["action"] = _mapped([p[2] for p in parts], codes)
    aborted = np.array([n.endswith(".aborted") for n in names], dtype=np.bool_)
    if aborted.any():
        if "failure_reason" in out:
            reasons = {str(r) for r in AbortReason}
            good = np.array([r in reasons for r in out["failure_reason"].dictionary.to_pylist()])
            valid = valid & (~aborted[codes] | good[out["failure_reason"].indices.to_numpy()])
        else:
            valid = valid & ~aborted[codes]
    return valid


def _mapped(values: Sequence[str], codes: npt.NDArray[np.int32]) -> pa.DictionaryArray:
    """Dictionary column whose row i is `values[codes[i]]`, without doubled dictionary values."""
    distinct = list(dict.fromkeys(values))
    lookup = np.array([distinct.index(v) for v in values], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(lookup[codes]), pa.array(distinct, pa.large_string())
    )
