"""The way of a result: the engine writes into a pipe, the event loop reads it."""

from __future__ import annotations

import asyncio
import fcntl
import os

from infra.local.clickhouse_server.errors import ClientLeftError

_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ; the module names it from Python 3.10 on Linux only
_PIPE_BYTES = 1 << 20


class ResultPipe:
    """A pipe with the engine at one end; a full pipe holds the engine back.

    Must be made and read on the event loop; `close_writer` may be called from any thread.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        fcntl.fcntl(self._writer, _SET_PIPE_SIZE, _PIPE_BYTES)
        self._loop = asyncio.get_running_loop()
        self._wakeup: asyncio.Future[None] | None = None
        self._is_aborted = False

    @property
    def writer(self) -> int:
        """The descriptor that the engine writes to."""
        return self._writer

    def close_writer(self) -> None:
        """Nothing more will come."""
        os.close(self._writer)

    async def read(self) -> bytes:
        """The next bytes, empty at the end. Raises ClientLeftError after an abort."""
        while True:
            if self._is_aborted:
                raise ClientLeftError
            try:
                return os.read(self._reader, _PIPE_BYTES)
            except BlockingIOError:
                pass
            self._wakeup = self._loop.create_future()
            self._loop.add_reader(self._reader, self._wake)
            try:
                await self._wakeup
            finally:
                self._loop.remove_reader(self._reader)

    def abort(self) -> None:
        """Make the read that waits, or the next one, raise ClientLeftError."""
        self._is_aborted = True
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def close(self) -> None:
        """Let go of the reading end; an engine that still writes gets a broken pipe."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1
