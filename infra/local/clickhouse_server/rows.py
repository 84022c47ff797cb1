"""Rows on their way in: an anonymous file that the engine reads, gone when it is closed.

Small bodies stay in memory, large ones go to an unlinked file. Neither leaves anything behind
when the process dies.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path
from typing import Protocol

import lz4.frame
import zstandard

from infra.local.clickhouse_server.errors import Code, refuse

MEMORY_BYTES = 64 * 1024 * 1024
"""A body larger than this goes to disk."""


class RowFile:
    """An anonymous file, written once, then read by the engine under `path`."""

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._limit = memory_bytes
        self._fd = os.memfd_create("rows")
        self.size = 0
        self.is_on_disk = False

    @property
    def path(self) -> str:
        """Where the engine, in this process, reads the file from its start."""
        return f"/proc/self/fd/{self._fd}"

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        if not self.is_on_disk and self.size + len(data) > self._limit:
            self._move_to_disk()
        view = memoryview(data)
        while view:
            done = os.write(self._fd, view)
            self.size += done
            view = view[done:]

    def close(self) -> None:
        """Give the memory or the disk space back. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _move_to_disk(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
            target = os.dup(file.fileno())
        at = 0
        while at < self.size:
            at += os.sendfile(target, self._fd, at, self.size - at)
        os.close(self._fd)
        self._fd = target
        self.is_on_disk = True


class _Decoder(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


def decompress(body: bytes, encoding: str) -> bytes:
    """Unpack a body that holds a statement. Raises ServerError when it is damaged or unknown.

    Rows behind a statement in the URL never come through here: the engine unpacks them itself.
    """
    if not encoding or encoding == "identity":
        return body
    decoder: _Decoder
    if encoding == "gzip":
        decoder = zlib.decompressobj(wbits=31)
    elif encoding == "deflate":
        decoder = zlib.decompressobj()
    elif encoding == "lz4":
        decoder = lz4.frame.LZ4FrameDecompressor()
    elif encoding == "zstd":
        decoder = zstandard.ZstdDecompressor().decompressobj()
    else:
        raise refuse(
            Code.NOT_IMPLEMENTED,
            f"Content-Encoding {encoding!r} of a statement: use gzip, deflate, lz4 or zstd",
        )
    try:
        return bytes(decoder.decompress(body))
    except (zlib.error, RuntimeError, zstandard.ZstdError, EOFError) as error:
        raise refuse(
            Code.INCORRECT_DATA,
            f"the body is not {encoding}, as its Content-Encoding says: {error}",
        ) from None
