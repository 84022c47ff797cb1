"""Just enough of a WebSocket client (RFC 6455) to hold a thousand connections in one process.

It reads text frames and answers pings. A library's client would take more of the cores that are
being measured than the server does.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0
MOST_BYTES = 16 * 1024**2


class WebSocketError(Exception):
    """The server refused the connection, or did not keep to the protocol."""


class Connection:
    """One open connection. Made by `open_websocket`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def messages(self) -> AsyncIterator[bytes]:
        """Payload of each text or binary message, until the server closes.

        Raises:
            WebSocketError: a frame larger than 16 MiB, or a masked one.
        """
        parts: list[bytes] = []
        while True:
            try:
                final, code, payload = await self._frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if code == CLOSE:
                with suppress(ConnectionError):  # it may be gone already
                    await self._send(CLOSE, payload[:2])
                return
            if code == PING:
                with suppress(ConnectionError):  # the next frame tells
                    await self._send(PONG, payload)
            elif code in {TEXT, BINARY, CONTINUATION}:
                parts.append(payload)
                if final:
                    yield b"".join(parts)
                    parts = []

    async def close(self) -> None:
        """Leave, politely where the other side still listens."""
        try:
            await self._send(CLOSE, struct.pack("!H", 1000))
            self._writer.close()
            await self._writer.wait_closed()
        except ConnectionError:
            return

    async def _frame(self) -> tuple[bool, int, bytes]:
        first, second = await self._reader.readexactly(2)
        if second & 0x80:
            raise WebSocketError("the server masked a frame")
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        if size > MOST_BYTES:
            raise WebSocketError(f"a frame of {size} bytes")
        return bool(first & 0x80), first & 0x0F, await self._reader.readexactly(size)

    async def _send(self, code: int, payload: bytes) -> None:
        """One frame of up to 125 bytes, masked as a client must."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload[:125]))
        self._writer.write(bytes([0x80 | code, 0x80 | len(masked)]) + mask + masked)
        await self._writer.drain()


async def open_websocket(
    host: str, port: int, path: str, headers: Mapping[str, str], timeout_seconds: float = 30.0
) -> Connection:
    """Connect and shake hands.

    Raises:
        WebSocketError: the server answered with something else than 101, or not in time.
    """
    lines = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(host, port, limit=2**20)
            writer.write(request.encode() + b"\r\n")
            answer = await reader.readuntil(b"\r\n\r\n")
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise WebSocketError(f"{host}:{port}{path}: {type(error).__name__} {error}") from error
    status = answer.split(b"\r\n", 1)[0].decode(errors="replace")
    if " 101 " not in status + " ":
        writer.close()
        raise WebSocketError(f"{host}:{port}{path}: {status}")
    return Connection(reader, writer)
