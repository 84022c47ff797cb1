"""Is the process alive, can it answer, and its figures."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

router = APIRouter(tags=["service"])


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether it can answer questions, and what it depends on.

    `degraded` answers all the same: the shared cache is away.
    """

    status: Literal["ready", "degraded", "not ready"]
    checks: dict[str, str]


@router.get("/health")
async def health() -> Health:
    """Alive, whatever the state of what it depends on."""
    return Health()


@router.get("/ready", responses={503: {"model": Ready, "description": "The warehouse is away"}})
def ready(request: Request, response: Response) -> Ready:
    """Ready to answer: the warehouse answers."""
    checks: dict[str, str] = request.app.state.engine.ready()
    if checks["warehouse"] != "ok":
        response.status_code = 503
        return Ready(status="not ready", checks=checks)
    state: Literal["ready", "degraded"] = "ready" if checks["valkey"] == "ok" else "degraded"
    return Ready(status=state, checks=checks)


@router.get("/metrics", include_in_schema=False)
def figures(request: Request) -> Response:
    """Figures for Prometheus, of this process."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
