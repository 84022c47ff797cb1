"""Reads events from JSON lines and Parquet, as they are: the landing job validates them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from herald.sources.errors import SourceError
from herald.sources.producer import MAX_RECORD_BYTES, Record

STDIN = "-"
BATCH_ROWS = 10_000


def is_parquet(name: str) -> bool:
    """Whether the name says Parquet."""
    return name.lower().endswith((".parquet", ".pq"))


def count_records(name: str) -> int | None:
    """Records of a Parquet file; None where counting would mean reading everything."""
    if name == STDIN or not is_parquet(name):
        return None
    return int(_parquet(name).metadata.num_rows)


def read_records(name: str, rows: int = 0) -> Iterator[list[Record]]:
    """Records of a file, or of standard input (`-`, JSON lines), in parts of `rows`.

    Every line is one record, an empty line an empty one. The key is the event's `user_id`, where
    the line is a JSON object that has one. Raises SourceError when the file cannot be read.
    """
    step = rows or BATCH_ROWS
    if name == STDIN:
        yield from _lines(sys.stdin.buffer, step, "standard input")
    elif is_parquet(name):
        yield from _rows(name, step)
    else:
        path = Path(name)
        try:
            file = path.open("rb")
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from None
        with file:
            yield from _lines(file, step, name)


def _lines(file: BinaryIO, step: int, name: str) -> Iterator[list[Record]]:
    start = file.peek(6)[:6] if hasattr(file, "peek") else b""
    if start[:4] == b"PAR1":
        raise SourceError(f"{name} is a Parquet file; its name must end in .parquet")
    if start[:2] == b"\x1f\x8b":
        raise SourceError(f"{name} is compressed; pipe it: gzip -dc FILE | herald produce -")
    number = 0
    try:
        while lines := list(islice(file, step)):
            part: list[Record] = []
            for line in lines:
                number += 1
                value = line.rstrip(b"\r\n")
                if len(value) > MAX_RECORD_BYTES:
                    raise SourceError(
                        f"{name}, line {number}: {len(value)} bytes are more than the "
                        f"{MAX_RECORD_BYTES} a record may have; is it JSON lines?"
                    )
                part.append((key_of(value), value))
            yield part
    except OSError as error:
        raise SourceError(f"{name} cannot be read at line {number}: {error}") from None


def key_of(value: bytes) -> str | None:
    """The `user_id` of an encoded event, if there is one."""
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    user = event.get("user_id") if isinstance(event, dict) else None
    return user if isinstance(user, str) and user else None


def _parquet(name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(name)
    except FileNotFoundError:
        raise SourceError(f"{name} cannot be read: No such file or directory") from None
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{name} is not a Parquet file: {error}") from None


def _rows(name: str, step: int) -> Iterator[list[Record]]:
    """One event a row; a column `properties` of JSON text becomes an object again."""
    file = _parquet(name)
    try:
        for batch in file.iter_batches(step):
            part: list[Record] = []
            for row in batch.to_pylist():
                event = {k: v for k, v in row.items() if v is not None and v != ""}
                properties = event.get("properties")
                if isinstance(properties, str):
                    event["properties"] = _object(properties)
                value = orjson.dumps(event, option=orjson.OPT_PASSTHROUGH_DATETIME, default=_plain)
                user = event.get("user_id")
                part.append((user if isinstance(user, str) else None, value))
            yield part
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{name} is damaged: {error}") from None


def _plain(value: object) -> object:
    """What orjson does not write as the contract wants it: money as numbers, times in ms."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        at = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def _object(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
