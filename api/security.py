"""Who asks: a bearer token, or a browser's session that was opened with it.

One administrator token for now; its holder may ask for every tenant. A page's session is a signed
cookie, a WebSocket's ticket a signed word that lives for seconds, since browsers cannot set headers
there. Both are signed with the token: another token ends them all.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

SCHEME = HTTPBearer(auto_error=False, description="`HERALD_API__PASSWORD` of the service.")
MIN_TOKEN = 16
SESSION_COOKIE = "herald_session"
TICKET_SECONDS = 30
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Purpose = Literal["session", "ticket"]


class Keyring:
    """Checks the token, and makes and checks what is signed with it."""

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._key = hashlib.sha256(b"herald api\0" + self._token).digest()
        self._clock = clock
        self._used: dict[str, float] = {}

    def is_token(self, given: str) -> bool:
        """Whether it is the token; takes the same time however much of it is right."""
        return secrets.compare_digest(given.encode(), self._token)

    def issue(self, purpose: Purpose, seconds: float) -> str:
        """A word that `check` accepts for so long."""
        body = f"{int(self._clock() + seconds)}.{secrets.token_urlsafe(12)}"
        return f"{body}.{self._signature(purpose, body)}"

    def check(self, purpose: Purpose, word: str) -> bool:
        """Whether it was issued for this purpose and is still good."""
        body, _, signature = word.rpartition(".")
        if not secrets.compare_digest(signature.encode(), self._signature(purpose, body).encode()):
            return False
        return int(body.partition(".")[0]) >= self._clock()

    def use(self, ticket: str) -> bool:
        """Whether a ticket is good; it is not a second time (in this process)."""
        now = self._clock()
        for used in [word for word, until in self._used.items() if until < now]:
            del self._used[used]
        if ticket in self._used or not self.check("ticket", ticket):
            return False
        self._used[ticket] = now + TICKET_SECONDS
        return True

    def _signature(self, purpose: str, body: str) -> str:
        return hmac.new(self._key, f"{purpose}\0{body}".encode(), hashlib.sha256).hexdigest()


def principal(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(SCHEME)],
) -> str:
    """The role of whoever asks: `admin`. 401 without the right token or a session."""
    keyring: Keyring = request.app.state.keyring
    if given is not None:
        if keyring.is_token(given.credentials):
            return "admin"
    elif keyring.check("session", request.cookies.get(SESSION_COOKIE, "")):
        _refuse_other_sites(request)
        return "admin"
    raise HTTPException(
        401,
        "send `Authorization: Bearer <token>` with the API's token",
        headers={"WWW-Authenticate": 'Bearer realm="herald"'},
    )


def _refuse_other_sites(request: Request) -> None:
    """The cookie is SameSite=Strict; a browser that says another site sent it is not believed."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    if request.method not in SAFE_METHODS and site not in {"same-origin", "none"}:
        raise HTTPException(403, f"a request from another site (Sec-Fetch-Site: {site}) is refused")


Principal = Annotated[str, Depends(principal)]
