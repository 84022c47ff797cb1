"""Bodies of POST /v1/events: forms, encodings, limits."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
import zstandard

from herald.intake.bodies import decompress, split
from herald.intake.errors import IntakeError

EVENTS = [{"event_id": "a", "n": 1.50}, {"event_id": "b", "text": "line\\nbreak"}]
ARRAY = json.dumps(EVENTS).encode()
RAW = [json.dumps(e).encode() for e in EVENTS]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (ARRAY, "application/json"),
        (b' \n{"events": ' + ARRAY + b"}", "application/json; charset=utf-8"),
        (b"\n".join(RAW) + b"\r\n\n", "application/x-ndjson"),
        (b"\r\n".join(RAW), "Application/JSONL"),
    ],
)
def test_split_keeps_each_event_as_written_when_the_form_differs(body: bytes, kind: str) -> None:
    assert split(body, kind, 2) == RAW


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (ARRAY, "text/plain", 415, "unknown_type"),
        (ARRAY, "", 415, "unknown_type"),
        (ARRAY[:-1], "application/json", 400, "malformed_body"),
        (b'{"event_id": "a"}', "application/json", 400, "malformed_body"),
        (b'{"events": 3}', "application/json", 400, "malformed_body"),
        (b'"text"', "application/json", 400, "malformed_body"),
        (b"[" * 200_000, "application/json", 400, "malformed_body"),
        (b"[]", "application/json", 422, "no_events"),
        (b"\n \n", "application/x-ndjson", 422, "no_events"),
        (b"[1,2,3]", "application/json", 413, "too_many_events"),
    ],
)
def test_split_says_what_is_wrong_when_it_is_no_batch(
    body: bytes, kind: str, status: int, code: str
) -> None:
    with pytest.raises(IntakeError) as caught:
        split(body, kind, 2)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_split_leaves_bad_lines_to_the_judgement_when_others_are_good() -> None:
    assert split(b"{}\nnot json\n", "application/ndjson", 5) == [b"{}", b"not json"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", ARRAY),
        ("identity", ARRAY),
        ("gzip", gzip.compress(ARRAY)),
        ("GZIP", gzip.compress(ARRAY[:10]) + gzip.compress(ARRAY[10:])),
        ("zstd", zstandard.compress(ARRAY)),
        ("zstd", zstandard.compress(ARRAY[:10]) + zstandard.compress(ARRAY[10:])),
    ],
)
def test_decompress_gives_the_text_when_the_encoding_is_known(encoding: str, body: bytes) -> None:
    assert decompress(body, encoding, len(ARRAY)) == ARRAY


def bomb(encoding: str) -> bytes:
    zeros = bytes(50_000_000)
    if encoding == "gzip":
        return gzip.compress(zeros)
    if encoding == "gzip members":
        return gzip.compress(bytes(90_000)) * 20
    return zstandard.compress(zeros) if encoding == "zstd" else zeros


@pytest.mark.parametrize("encoding", ["identity", "gzip", "gzip members", "zstd"])
def test_decompress_stops_at_the_limit_when_the_body_is_a_bomb(encoding: str) -> None:
    body = bomb(encoding)
    with pytest.raises(IntakeError) as caught:
        decompress(body, encoding.split()[0], 100_000)
    assert (caught.value.status, caught.value.code) == (413, "batch_too_large")


def test_decompress_refuses_when_a_frame_asks_for_much_memory() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    body = compressor.compress(ARRAY) + compressor.flush()
    with pytest.raises(IntakeError) as caught:
        decompress(body, "zstd", 10_000_000)
    assert caught.value.code == "damaged_body"


@pytest.mark.parametrize(
    ("encoding", "body", "code"),
    [
        ("gzip", b"not gzip", "damaged_body"),
        ("gzip", gzip.compress(ARRAY)[:-4], "damaged_body"),
        ("gzip", zlib.compress(ARRAY), "damaged_body"),
        ("zstd", b"not zstd", "damaged_body"),
        ("zstd", zstandard.compress(ARRAY)[:-4], "damaged_body"),
        ("br", ARRAY, "unknown_encoding"),
    ],
)
def test_decompress_says_what_is_wrong_when_the_body_is_damaged(
    encoding: str, body: bytes, code: str
) -> None:
    with pytest.raises(IntakeError) as caught:
        decompress(body, encoding, 1_000)
    assert caught.value.code == code
