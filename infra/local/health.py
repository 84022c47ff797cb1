"""Health by HTTP."""

from __future__ import annotations

import httpx


def answers(url: str, *, timeout_seconds: float = 3.0, contains: str = "") -> bool:
    """Whether a GET gets 200, and a body with the given text in it."""
    try:
        response = httpx.get(url, timeout=timeout_seconds, trust_env=False)
    except httpx.HTTPError:
        return False
    return response.status_code == 200 and contains in response.text
