"""A request's body to the bytes of each event: decompressed within limits, split, not parsed."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import zstandard

from herald.intake.errors import IntakeError

JSON_TYPES = frozenset({"application/json"})
LINE_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
ENCODINGS = ("identity", "gzip", "zstd")

_GZIP = 16 + zlib.MAX_WBITS
_MAX_WINDOW = 8 * 1024**2
"""Memory that a zstd stream may ask for; what `zstd -19` needs."""
_ZSTD_SLICE = 256
"""Fed at once: four bytes can stand for 128 KiB, so that a slice gives 8 MiB at most."""


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(_Batch)


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as text. Never holds more than `limit` bytes of it, whatever the header claims.

    Raises:
        IntakeError: 415 unknown encoding, 413 larger than the limit, 400 damaged.
    """
    match encoding.strip().lower():
        case "" | "identity":
            _check(body, limit)
            return body
        case "gzip" | "x-gzip":
            return _gunzip(body, limit)
        case "zstd":
            return _unzstd(body, limit)
        case other:
            raise IntakeError(
                415,
                "unknown_encoding",
                f"Content-Encoding: {other[:40]!r} is not known; one of {', '.join(ENCODINGS)}",
            )


def split(body: bytes, content_type: str, max_events: int) -> list[bytes]:
    """The events of a JSON array, of `{"events": [...]}`, or of lines; each as it was written.

    Raises:
        IntakeError: 415 another type, 400 no such JSON, 413 too many events, 422 none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in LINE_TYPES:
        events = [line for raw in body.split(b"\n") if (line := raw.strip())]
    elif kind in JSON_TYPES:
        events = _from_json(body)
    else:
        raise IntakeError(
            415,
            "unknown_type",
            f"Content-Type: {kind[:80]!r} is not known; application/json for an array or "
            '{"events": [...]}, application/x-ndjson for an event a line',
        )
    if not events:
        raise IntakeError(422, "no_events", "the body holds no event; send one at least")
    if len(events) > max_events:
        raise IntakeError(
            413,
            "too_many_events",
            f"{len(events)} events; at most {max_events} in a batch "
            "(HERALD_INTAKE__MAX_BATCH_EVENTS): send several",
        )
    return events


def _from_json(body: bytes) -> list[bytes]:
    is_object = body.lstrip()[:1] == b"{"
    try:
        raws = _OBJECT.decode(body).events if is_object else _ARRAY.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise IntakeError(
            400,
            "malformed_body",
            f'the body is neither a JSON array of events nor {{"events": [...]}}: {error}; '
            "lines of JSON are sent as application/x-ndjson",
        ) from None
    return [bytes(raw) for raw in raws]


def _gunzip(body: bytes, limit: int) -> bytes:
    out = bytearray()
    rest = body
    try:
        while rest:  # several members may follow each other
            inflate = zlib.decompressobj(_GZIP)
            out += inflate.decompress(rest, limit + 1 - len(out))
            _check(out, limit)
            if not inflate.eof:
                raise _damaged("gzip", "it ends too early")
            rest = inflate.unused_data
    except zlib.error as error:
        raise _damaged("gzip", str(error)) from None
    return bytes(out)


def _unzstd(body: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    out = bytearray()
    frame: Any = None
    try:
        for start in range(0, len(body), _ZSTD_SLICE):
            rest = body[start : start + _ZSTD_SLICE]
            while rest:  # several frames may follow each other
                frame = frame if frame is not None else decompressor.decompressobj()
                out += frame.decompress(rest)
                _check(out, limit)
                rest = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise _damaged("zstd", str(error)) from None
    if frame is not None:
        raise _damaged("zstd", "it ends too early")
    return bytes(out)


def _check(body: bytes | bytearray, limit: int) -> None:
    if len(body) > limit:
        raise IntakeError(
            413,
            "batch_too_large",
            f"the batch is larger than {limit} bytes once decompressed "
            "(HERALD_INTAKE__MAX_BATCH_BYTES): send several",
        )


def _damaged(encoding: str, why: str) -> IntakeError:
    return IntakeError(400, "damaged_body", f"the body is no whole {encoding}: {why}")
