"""Every error as a problem document (RFC 9457) with a code, a fix and the request's id."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from herald.engine.errors import EngineError

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class ProblemItem(BaseModel):
    """One wrong part of a request."""

    field: str
    value: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[ProblemItem] = []


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any error, as a problem document",
        "content": {MEDIA_TYPE: {"schema": ProblemDocument.model_json_schema()}},
    }
}


def problem(
    request: Request,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[ProblemItem] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Build the answer for one error."""
    document = ProblemDocument(
        type=f"urn:herald:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=getattr(request.state, "request_id", ""),
        errors=list(errors),
    )
    return JSONResponse(
        document.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def install(app: FastAPI) -> None:
    """Register the handlers of every kind of error."""

    @app.exception_handler(EngineError)
    async def engine_error(request: Request, error: EngineError) -> JSONResponse:
        retry = {"Retry-After": "1"} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return problem(
            request,
            status=error.status,
            code=error.code,
            title=error.title,
            detail=str(error),
            errors=[
                ProblemItem(field=p.field, value=p.value, message=p.message) for p in error.problems
            ],
            headers=retry,
        )

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        items = [
            ProblemItem(
                field=".".join(str(part) for part in e["loc"]),
                value=repr(e.get("input"))[:200],
                message=e["msg"],
            )
            for e in error.errors()
        ]
        return problem(
            request,
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            code="invalid_request",
            title="The request is not valid",
            detail="; ".join(f"{i.field}: {i.message}" for i in items),
            errors=items,
        )

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase
        return problem(
            request,
            status=error.status_code,
            code=phrase.lower().replace(" ", "_"),
            title=phrase,
            detail=str(error.detail),
            headers=dict(error.headers) if error.headers else None,
        )

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected error at %s", request.url.path, exc_info=error)
        return problem(
            request,
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            code="internal_error",
            title="Something went wrong on our side",
            detail="the log has the details under this request id",
        )
