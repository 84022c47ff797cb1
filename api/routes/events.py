"""Events in: a batch over HTTP, for services that speak no Kafka."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from api.problems import ProblemItem, problem
from api.security import Principal
from herald.intake.bodies import decompress, split
from herald.intake.build import IntakeHolder
from herald.intake.errors import IntakeError
from herald.intake.service import Receipt
from herald.settings import Intake as IntakeSettings

router = APIRouter(prefix="/v1", tags=["events"])

EXAMPLE = {
    "event_id": "0192d3a4-5b6c-7d8e-9f00-112233445566",
    "tenant_id": "acme",
    "event_type": "email.delivered",
    "occurred_at": "2026-11-01T10:00:00.123Z",
    "user_id": "u_5f2c",
    "message_id": "m_81",
    "campaign_id": "autumn",
    "provider": "ses",
}
_SCHEMA = {"type": "object", "description": "An event: docs/reference/contract.md"}
_LINES = {"type": "string", "description": "An event a line."}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Content-Encoding may be gzip or zstd.",
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "array", "items": _SCHEMA},
                        {
                            "type": "object",
                            "required": ["events"],
                            "properties": {"events": {"type": "array", "items": _SCHEMA}},
                        },
                    ]
                },
                "examples": {
                    "array": {"summary": "An array", "value": [EXAMPLE]},
                    "object": {"summary": "An object", "value": {"events": [EXAMPLE]}},
                },
            },
            "application/x-ndjson": {
                "schema": _LINES,
                "examples": {
                    "lines": {
                        "summary": "Lines",
                        "value": '{"event_id":"0192d3a4-5b6c-7d8e-9f00-112233445566",'
                        '"tenant_id":"acme","event_type":"push.sent",'
                        '"occurred_at":"2026-11-01T10:00:00Z"}\n',
                    }
                },
            },
        },
    }
}


class RefusedEvent(BaseModel):
    """An event that breaks the contract; it was not taken and never will be as it is."""

    index: int = Field(description="Position in the batch, from 0.")
    event_id: str
    error_class: str = Field(alias="class", description="As of a dead letter.")
    field: str
    value: str = Field(description="Beginning of the wrong value.")
    rule: str


class BatchReceipt(BaseModel):
    """The broker has acknowledged every accepted event."""

    accepted: int
    duplicates: int = Field(description="Taken before, by this batch or an earlier one.")
    refused: int
    errors: list[RefusedEvent]


_ACCEPTED = {
    "accepted": 1,
    "duplicates": 0,
    "refused": 1,
    "errors": [
        {
            "index": 1,
            "event_id": "0192d3a4-5b6c-7d8e-9f00-112233445567",
            "class": "invalid_value",
            "field": "country",
            "value": "'de'",
            "rule": "String should match pattern '^([A-Z]{2})?$'",
        }
    ],
}


@router.post(
    "/events",
    status_code=202,
    response_model=BatchReceipt,
    openapi_extra=BODY,
    responses={
        202: {"content": {"application/json": {"example": _ACCEPTED}}},
        413: {"description": "Too many bytes or events for one batch"},
        422: {"description": "No event in the batch keeps the contract"},
        429: {"description": "Landing is too far behind; Retry-After says when to try again"},
        503: {"description": "Broker or Valkey is away; sending again counts once"},
    },
)
async def take_events(request: Request, _: Principal) -> JSONResponse:
    """Take a batch of events. Sending the same batch again counts once.

    Answered when the broker has acknowledged every accepted event. Each event is judged by the
    contract; the others are taken although some are refused. A retry is recognised by `event_id`.
    """
    settings: IntakeSettings = request.app.state.intake_settings
    holder: IntakeHolder = request.app.state.intake
    try:
        body = await _read(request, settings.max_body_bytes)
        # decompressing, judging and waiting for the broker would hold up every other request
        receipt = await run_in_threadpool(_take, holder, settings, request, body)
    except IntakeError as error:
        retry = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
        return problem(
            request,
            status=error.status,
            code=error.code,
            title="The batch was not taken",
            detail=str(error),
            headers=retry,
        )
    if len(receipt.verdicts) and not receipt.accepted and not receipt.duplicates:
        return _all_refused(request, receipt)
    return JSONResponse(_answer(receipt), status_code=202)


def _take(holder: IntakeHolder, settings: IntakeSettings, request: Request, body: bytes) -> Receipt:
    plain = decompress(body, request.headers.get("content-encoding", ""), settings.max_batch_bytes)
    events = split(plain, request.headers.get("content-type", ""), settings.max_batch_events)
    return holder.get().take(events)


async def _read(request: Request, limit: int) -> bytes:
    """The body, given up as soon as it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise IntakeError(
                413,
                "body_too_large",
                f"the body is longer than {limit} bytes (HERALD_INTAKE__MAX_BODY_BYTES): send "
                "several batches, or compress them",
            )
    return bytes(body)


def _answer(receipt: Receipt) -> dict[str, Any]:
    return {
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "refused": len(receipt.verdicts),
        "errors": [
            {
                "index": v.index,
                "event_id": v.event_id,
                "class": v.error_class,
                "field": v.field,
                "value": v.value,
                "rule": v.rule,
            }
            for v in receipt.verdicts
        ],
    }


def _all_refused(request: Request, receipt: Receipt) -> JSONResponse:
    items = [
        ProblemItem(
            field=f"events.{v.index}.{v.field}", value=v.value, message=f"{v.error_class}: {v.rule}"
        )
        for v in receipt.verdicts
    ]
    return problem(
        request,
        status=422,
        code="no_valid_event",
        title="No event keeps the contract",
        detail=f"none of {len(items)} events was taken; docs/reference/contract.md has the rules",
        errors=items,
    )
