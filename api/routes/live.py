"""The live page's figures: one answer by HTTP, a stream by WebSocket, and the page's session."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, HTTPException, Query, Request, Response, WebSocket
from pydantic import BaseModel, ConfigDict
from starlette.websockets import WebSocketDisconnect, WebSocketState

from api.live_hub import Hub, LiveFullError, Watcher
from api.security import SESSION_COOKIE, TICKET_SECONDS, Keyring, Principal
from herald.live.filters import FilterError, LiveFilters

router = APIRouter(prefix="/v1/live", tags=["live"])

UNAUTHORISED = 4401
TRY_AGAIN_LATER = 1013
MAX_MESSAGE = 4_096
MAX_REASON = 120
"""A close frame holds 123 bytes."""

CLOSE_SECONDS = 2.0


class SignIn(BaseModel):
    """The API's token."""

    model_config = ConfigDict(extra="forbid")

    token: str


class Ticket(BaseModel):
    """Opens one WebSocket within `seconds`."""

    ticket: str
    seconds: int


@router.post("/session", status_code=204)
async def sign_in(given: SignIn, request: Request, response: Response) -> None:
    """Open a session: a cookie that scripts cannot read. 401 for another token."""
    keyring: Keyring = request.app.state.keyring
    if not keyring.is_token(given.token):
        raise HTTPException(401, "this is not the API's token (HERALD_API__PASSWORD)")
    seconds = int(request.app.state.live_settings.session_hours * 3_600)
    response.set_cookie(
        SESSION_COOKIE,
        keyring.issue("session", seconds),
        max_age=seconds,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


@router.delete("/session", status_code=204)
async def sign_out(response: Response) -> None:
    """End the session of this browser."""
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")


@router.post("/tickets")
async def issue_ticket(_: Principal, request: Request) -> Ticket:
    """A ticket for `?ticket=` of the WebSocket, good once and for seconds."""
    keyring: Keyring = request.app.state.keyring
    return Ticket(ticket=keyring.issue("ticket", TICKET_SECONDS), seconds=TICKET_SECONDS)


@router.get("/snapshot", response_class=Response)
async def read_snapshot(
    filters: Annotated[LiveFilters, Query()], _: Principal, request: Request
) -> Response:
    """One view now: the message that the WebSocket sends. Asking again soon costs nothing."""
    hub: Hub = request.app.state.live
    try:
        message = await hub.current(filters)
    except LiveFullError as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from error
    return Response(message, media_type="application/json")


@router.websocket("/ws")
async def stream(websocket: WebSocket) -> None:
    """A view as it changes. Filters and a ticket (or an Authorization header) in the address.

    The server sends snapshots, errors and pongs; the client may send `{"type": "filters", ...}` to
    watch another view, and `{"type": "ping"}`.
    """
    await websocket.accept()
    try:
        if not _is_welcome(websocket):
            await _end(websocket, UNAUTHORISED, "the ticket or token is not good (any more)")
            return
        await _Client(websocket).serve()
    except (WebSocketDisconnect, RuntimeError, OSError):
        # gone; RuntimeError is what the server says of sending to a socket that closed
        return


def _is_welcome(websocket: WebSocket) -> bool:
    keyring: Keyring = websocket.app.state.keyring
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return keyring.is_token(token.strip())
    return keyring.use(websocket.query_params.get("ticket", ""))


class _Client:
    """One WebSocket: what it sends is read beside what is sent to it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._socket = websocket
        self._hub: Hub = websocket.app.state.live
        self._speaking: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Until it leaves, or cannot follow."""
        try:
            watcher = self._hub.enter(self._drop)
        except LiveFullError as error:
            await _end(self._socket, TRY_AGAIN_LATER, str(error))
            return
        try:
            given = {k: v for k, v in self._socket.query_params.items() if k != "ticket"}
            await self._watch(watcher, given)
            self._speaking = asyncio.create_task(self._speak(watcher))
            listening = asyncio.create_task(self._listen(watcher))
            tasks = [self._speaking, listening]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._hub.leave(watcher)
        if not isinstance(ends[1], WebSocketDisconnect):
            await _end(self._socket, TRY_AGAIN_LATER, "too slow to follow; reconnect")

    def _drop(self) -> None:
        # its socket takes nothing any more, so the sending that waits for it is given up
        if self._speaking is not None:
            self._speaking.cancel()

    async def _watch(self, watcher: Watcher, given: Mapping[Any, Any]) -> None:
        """Watch the view of these filters; on an error say so and stay where it is."""
        try:
            self._hub.watch(watcher, LiveFilters.read({str(k): v for k, v in given.items()}))
        except (FilterError, LiveFullError) as error:
            await _send(self._socket, {"type": "error", "message": str(error)})

    async def _listen(self, watcher: Watcher) -> None:
        while True:
            text = await self._socket.receive_text()
            try:
                message = orjson.loads(text) if len(text) <= MAX_MESSAGE else None
            except orjson.JSONDecodeError:
                message = None
            match message:
                case {"type": "ping"}:
                    await _send(self._socket, {"type": "pong"})
                case {"type": "filters", **given}:
                    await self._watch(watcher, given)
                case _:
                    known = "send a JSON object with type ping or filters, 4 kB at most"
                    await _send(self._socket, {"type": "error", "message": known})

    async def _speak(self, watcher: Watcher) -> None:
        while True:
            await self._socket.send_text(await watcher.queue.get())


async def _send(websocket: WebSocket, message: dict[str, Any]) -> None:
    await websocket.send_text(orjson.dumps(message).decode())


async def _end(websocket: WebSocket, code: int, reason: str) -> None:
    if websocket.client_state is WebSocketState.CONNECTED:
        # a client that takes nothing does not take the goodbye either
        with suppress(TimeoutError):
            await asyncio.wait_for(websocket.close(code, reason[:MAX_REASON]), CLOSE_SECONDS)
