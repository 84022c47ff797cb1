"""Serves the live page at `/live`, as the set-up built it from `api/live_page/`.

The page holds no data of its own: whoever asks may have it, the figures need a session.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from herald.settings import ROOT

BUILT = ROOT / "var" / "web" / "live"
NOT_BUILT = "The live page is not built. Run `make setup`, which builds it into var/web/live.\n"
# nothing from another host, nothing inline: a name in an event can become text, never a script
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HASHED = "public, max-age=31536000, immutable"


class LivePage:
    """The built files with the headers of the page; a clear answer while there are none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: ASGIApp = StaticFiles(directory=folder, html=True, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not (self._folder / "index.html").is_file():
            await PlainTextResponse(NOT_BUILT, status_code=503)(scope, receive, send)
            return
        # names under assets/ carry a hash of their content; the page itself is asked for again
        cache = HASHED if "/assets/" in scope["path"] else "no-cache"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                fixed = {**HEADERS, "Cache-Control": cache}
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in fixed.items()]
            await send(message)

        await self._files(scope, receive, send_with_headers)


def install(app: FastAPI, folder: Path = BUILT) -> None:
    """Mount the page; call after the routes, whose paths go first."""
    app.mount("/live", LivePage(folder), name="live-page")
