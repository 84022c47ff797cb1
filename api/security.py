"""Bearer tokens. One administrator token for now; its holder may ask for every tenant."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

SCHEME = HTTPBearer(auto_error=False, description="`HERALD_API__PASSWORD` of the service.")
MIN_TOKEN = 16


def principal(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(SCHEME)],
) -> str:
    """The role of whoever asks: `admin`. 401 without the right token."""
    expected: str = request.app.state.token
    token = given.credentials if given else ""
    # compared as bytes and in constant time: the time tells nothing of how much was right
    if not secrets.compare_digest(token.encode(), expected.encode()):
        raise HTTPException(
            401,
            "send `Authorization: Bearer <token>` with the API's token",
            headers={"WWW-Authenticate": 'Bearer realm="herald"'},
        )
    return "admin"


Principal = Annotated[str, Depends(principal)]
