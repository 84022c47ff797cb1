"""From records to what the keyed state counts: sends and opens a user and window. Pure.

A stream of all events is read for one event in four: bytes are searched before anything is parsed,
and what is parsed is summed before it leaves the task.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
import polars as pl

OPENS = ("opened", "clicked", "impressed", "read")
_WANTED = re.compile(rb'\.(?:sent|opened|clicked|impressed|read)"')

_READ = {
    "tenant_id": pl.String, "event_type": pl.String, "user_id": pl.String,
    "occurred_at": pl.String, "machine_open": pl.Boolean,
}  # fmt: skip
FACTS = {
    "rule": pl.String, "tenant_id": pl.String, "user_id": pl.String, "window_end": pl.Int64,
    "sends": pl.Int64, "opens": pl.Int64, "seen_ms": pl.Int64,
}  # fmt: skip
"""Columns of the facts; times are Unix ms."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one rule: of length `window_ms`, one beginning every `hop_ms`."""

    rule: str
    window_ms: int
    hop_ms: int


def facts(values: Iterable[bytes], windows: Sequence[Windows], newest_ms: int) -> pl.DataFrame:
    """Sends and human opens by rule, user and window.

    Records that cannot be read, have no user or lie after `newest_ms` count nowhere: landing
    decides about them, alerts do without.
    """
    kept = [v for v in values if _WANTED.search(v)]
    if not kept or not windows:
        return pl.DataFrame(schema=FACTS)
    action = pl.col("event_type").str.split(".").list.last()
    human = ~pl.col("machine_open").fill_null(value=False)
    rows = (
        _parsed(kept)
        .with_columns(at=pl.col("occurred_at").str.to_datetime(
            time_unit="ms", time_zone="UTC", strict=False, format="%+").dt.epoch("ms"))
        .filter(
            pl.col("at").is_not_null() & (pl.col("at") <= newest_ms)
            & (pl.col("user_id").fill_null("") != "") & (pl.col("tenant_id").fill_null("") != "")
        )
        .select(
            "tenant_id", "user_id", "at",
            sends=(action == "sent").cast(pl.Int64),
            opens=(action.is_in(OPENS) & human).cast(pl.Int64),
        )
    )  # fmt: skip
    return pl.concat([_windowed(rows, w) for w in windows]).select(list(FACTS))


def _windowed(rows: pl.DataFrame, w: Windows) -> pl.DataFrame:
    first_end = pl.col("at") // w.hop_ms * w.hop_ms + w.hop_ms
    ends = [pl.col("first_end") + i * w.hop_ms for i in range(w.window_ms // w.hop_ms)]
    summed = [pl.col("sends").sum(), pl.col("opens").sum()]
    keys = ["tenant_id", "user_id"]
    return (
        rows.with_columns(first_end=first_end)
        .group_by(*keys, "first_end")
        .agg(*summed, seen_ms=pl.col("at").filter(pl.col("sends") > 0).max())
        .with_columns(window_end=pl.concat_list(ends))
        .explode("window_end")
        .group_by(*keys, "window_end")
        .agg(*summed, pl.col("seen_ms").max())
        .with_columns(rule=pl.lit(w.rule), seen_ms=pl.col("seen_ms").fill_null(0))
    )


def _parsed(values: list[bytes]) -> pl.DataFrame:
    try:
        return pl.read_ndjson(io.BytesIO(b"\n".join(values)), schema=_READ)
    except pl.exceptions.PolarsError:  # one bad line fails all of them: find the good ones
        return pl.DataFrame([row for v in values if (row := _one(v))], schema=_READ)


def _one(value: bytes) -> dict[str, object] | None:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict):
        return None
    texts = {k: v for k in _READ if isinstance(v := event.get(k), str)}
    return {**dict.fromkeys(_READ), **texts, "machine_open": event.get("machine_open") is True}
