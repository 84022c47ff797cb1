"""Stored columns of parsed events, and which rows keep every rule; each rule as a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from herald.contract.events import CONTRACT_VERSION, Event
from herald.contract.schemas import StoredField, event_fields
from herald.contract.vocabulary import EVENT_TYPES, AbortReason
from spark_jobs.transforms.clock import usual_times
from spark_jobs.transforms.judging import Limits

Mask = npt.NDArray[np.bool_]

FIELDS: dict[str, StoredField] = {f.name: f for f in event_fields()}
"""Every column of `raw.events`."""
PRODUCED: dict[str, StoredField] = {n: f for n, f in FIELDS.items() if n in Event.model_fields}
"""Those that producers send."""
ALWAYS = frozenset(n for n, f in PRODUCED.items() if f.required or n == "schema_version")
"""Columns that every batch has; the version's default is not the table's."""

_PLAIN = pl.CompatLevel.oldest()  # strings as one buffer, not as views
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)$"
_MAX_SURE_MONEY = 1e11
"""Above it a double no longer tells four decimals apart."""


def build(frame: pl.DataFrame, now_ms: int, limits: Limits) -> tuple[pa.Table, Mask]:
    """Stored columns of a parsed frame, and which rows keep every rule."""
    valid = np.ones(len(frame), dtype=np.bool_)
    out: dict[str, pa.Array] = {}
    for name in frame.columns:
        field = PRODUCED[name]
        if name not in ALWAYS and frame[name].null_count() == len(frame):
            continue
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
                out[name] = filled.to_arrow(compat_level=_PLAIN)
                valid &= _short_enough(out[name], field)
    valid &= frame["event_id"].str.contains(_UUID).fill_null(value=False).to_numpy()
    valid &= frame["occurred_at"].is_not_null().to_numpy()
    if "channel" in out:  # an empty string is no channel; only an absent one takes the prefix
        valid &= (frame["channel"] != "").fill_null(value=True).to_numpy()
    valid &= _vocabulary(out)
    return pa.table(out), valid


def _dictionary(column: pl.Series, field: StoredField) -> tuple[pa.DictionaryArray, Mask]:
    """Encode, and check each distinct value once."""
    encoded = column.to_arrow(compat_level=_PLAIN).dictionary_encode()
    if encoded.null_count:  # filling codes is cheaper than filling texts
        values = encoded.dictionary.to_pylist()
        default = CONTRACT_VERSION if field.name == "schema_version" else ""
        code = values.index(default) if default in values else len(values)
        encoded = pa.DictionaryArray.from_arrays(
            encoded.indices.fill_null(code),
            pa.array(values if code < len(values) else [*values, default], pa.large_string()),
        )
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
    ms, sure = usual_times(column.to_arrow(compat_level=_PLAIN))
    if ms is None:
        ms, sure = _other_times(column, limits)
    sure &= (ms >= limits.oldest_ms) & (ms <= now_ms + limits.future_tolerance_ms)
    times = pa.array(ms, mask=~given).cast(pa.timestamp("ms", tz="UTC"))
    return times, sure | ~given


def _other_times(column: pl.Series, limits: Limits) -> tuple[npt.NDArray[np.int64], Mask]:
    """Milliseconds of times in any form, and which are in one that is sure."""
    parsed = column.str.to_datetime("%+", time_unit="ms", strict=False)
    if parsed.dtype == pl.Datetime("ms"):
        parsed = parsed.dt.replace_time_zone("UTC")
    written = column.str.contains(_TIME).fill_null(value=False).to_numpy()
    ms = parsed.cast(pl.Int64).fill_null(limits.oldest_ms).to_numpy()
    return ms, written & parsed.is_not_null().to_numpy()


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
