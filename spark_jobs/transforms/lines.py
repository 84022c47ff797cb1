"""The values of a batch as one text, so that looking at all of them copies none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Mask = npt.NDArray[np.bool_]

_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Lines:
    """The values of a batch, each ended by a line break, as one text that nothing is copied from.

    text holds an empty string for a value that is no UTF-8; sizes are in bytes.
    """

    values: Sequence[bytes]
    blob: bytes
    sizes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    text: pl.Series

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Lines:
        """Join values."""
        blob = b"\n".join((*values, b""))
        sizes = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        starts = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(sizes + 1, out=starts[1:])
        raw = pa.Array.from_buffers(
            pa.large_binary(), len(values), [None, pa.py_buffer(starts), pa.py_buffer(blob)]
        )
        try:
            text = raw.cast(pa.large_string())
        except pa.ArrowInvalid:
            text = _without_invalid(raw)
        return cls(values, blob, sizes, starts, pl.Series(pl.from_arrow(text)))

    def only(self, usable: Mask) -> bytes:
        """The lines, with an empty object in place of each that is not usable."""
        out = np.flatnonzero(~usable).tolist()
        if not out:
            return self.blob
        view, at = memoryview(self.blob), 0
        pieces: list[bytes | memoryview] = []
        for position in out:
            pieces += [view[at : self.starts[position]], b"{}\n"]
            at = int(self.starts[position + 1])
        return b"".join([*pieces, view[at:]])


def _without_invalid(raw: pa.Array) -> pa.Array:
    """Text of values, those that are no UTF-8 emptied; only blocks that hold one are searched."""
    parts = []
    for start in range(0, len(raw), _BLOCK):
        block = raw.slice(start, _BLOCK)
        try:
            parts.append(block.cast(pa.large_string()))
        except pa.ArrowInvalid:
            texts = [_decoded(value) for value in block.to_pylist()]
            parts.append(pa.array(texts, pa.large_string()))
    return pa.concat_arrays(parts)


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return ""
