"""Dead letters: browse what was refused, mend it and send it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from clickhouse_connect.driver.client import Client
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.security import Principal
from herald.contract.errors import ErrorClass
from herald.dead_letters.browse import one, page, summarize
from herald.dead_letters.errors import DeadLetterError, ReplayBrokenError, ReplayBusyError
from herald.dead_letters.replay import replay
from herald.dead_letters.selection import LetterId, Selection
from herald.settings import Settings
from herald.warehouse.client import connect
from herald.warehouse.errors import WarehouseDownError

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])
MAX_REPLAY = 10_000


def writer(request: Request, _: Principal) -> Iterator[Client]:
    """A client of its own for each request: these are few, and raw tables are the writer's."""
    try:
        client = connect(_settings(request).warehouse, timeout_seconds=60)
    except WarehouseDownError as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from error
    try:
        yield client
    finally:
        client.close()


Writer = Annotated[Client, Depends(writer)]


class LetterFilter(BaseModel):
    """Which dead letters; what is left out selects all."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    error_class: ErrorClass | None = Field(None, alias="class")
    field: str = Field("", description="Field that was refused.")
    topic: str = Field("", description="Topic they came from.")
    tenant: str = Field("", description="Tenant that the event names.")
    since: datetime | None = Field(None, description="Landed at or after.")
    until: datetime | None = Field(None, description="Landed before.")

    def selection(self, ids: tuple[LetterId, ...] = ()) -> Selection:
        """As the library knows it."""
        return Selection(
            self.error_class.value if self.error_class else "",
            self.field,
            self.topic,
            self.since,
            self.until,
            self.tenant,
            ids,
        )


class LetterPage(LetterFilter):
    """A page of them."""

    replayed: bool | None = Field(None, description="Only those sent again, or only the others.")
    limit: int = Field(50, ge=1, le=1_000)
    cursor: str = Field("", description="`next_cursor` of the page before.")


class Listed(BaseModel):
    """A letter without its value."""

    id: str = Field(description="`topic:partition:offset`.")
    topic: str
    partition: int
    offset: int
    landed_at: datetime
    produced_at: datetime
    error_class: str
    error_field: str
    error_message: str
    contract_version: str
    tenant_id: str
    bytes: int
    is_replayed: bool


class Letters(BaseModel):
    """A page, newest first."""

    dead_letters: list[Listed]
    next_cursor: str


class Replayed(BaseModel):
    """Where a letter was sent again."""

    run_id: str
    replayed_at: datetime
    fix_up: str
    principal: str
    new_partition: int
    new_offset: int


class Shown(Listed):
    """A letter with its value."""

    key: str
    value: str = Field(description="Bytes that are no UTF-8 are escaped; cut after 64 KiB.")
    value_base64: str
    is_cut: bool
    replays: list[Replayed]


class ReplayFilter(LetterFilter):
    """Which letters to replay."""

    ids: list[str] = Field([], max_length=1_000, description="Only these.")


class ReplayRequest(BaseModel):
    """What to send again. Without `dry_run: false` nothing is sent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "filter": {"class": "invalid_value", "field": "country"},
                    "fix_up": '$ ~> | $ | {"country": $uppercase(country)} |',
                    "dry_run": True,
                }
            ]
        },
    )

    filter: ReplayFilter
    fix_up: str = Field("", max_length=4_096, description="JSONata over the event; '' sends as is.")
    dry_run: bool = True
    again: bool = Field(False, description="Also what was replayed before.")
    limit: int = Field(1_000, ge=1, le=MAX_REPLAY)
    examples: int = Field(3, ge=0, le=50)


class ReplayExample(BaseModel):
    """One letter before and after."""

    id: str
    before: str
    after: str
    problem: str


class ReplayAnswer(BaseModel):
    """What was sent, or would be; docs/how-to/replay-dead-letters.md explains each."""

    run_id: str
    dry_run: bool
    selected: int
    already_replayed: int
    sendable: int
    sent: int
    refused: int
    failed: int
    skipped: int
    left: int
    recovered: int
    reasons: dict[str, int]
    examples: list[ReplayExample]


@router.get("", response_model=Letters)
def list_letters(ask: Annotated[LetterPage, Query()], _: Principal, client: Writer) -> Any:
    """A page of dead letters, newest first, without their values."""
    try:
        found = page(
            client,
            ask.selection(),
            limit=ask.limit,
            cursor=ask.cursor,
            replayed=ask.replayed,
        )
    except DeadLetterError as error:
        raise _refusal(error) from error
    return {"dead_letters": found.letters, "next_cursor": found.cursor}


@router.get("/stats")
def letter_stats(
    ask: Annotated[LetterFilter, Query()], _: Principal, client: Writer
) -> list[dict[str, Any]]:
    """Counts by topic, class and field, the most frequent first."""
    return summarize(client, ask.selection())


@router.post("/replay", response_model=ReplayAnswer)
def replay_letters(
    ask: ReplayRequest, principal: Principal, client: Writer, request: Request
) -> Any:
    """Mend letters and send them again, once each. A dry run unless told otherwise."""
    try:
        ids = tuple(LetterId.parse(text) for text in ask.filter.ids)
        outcome = replay(
            client,
            _settings(request),
            ask.filter.selection(ids),
            fix_up=ask.fix_up,
            dry_run=ask.dry_run,
            again=ask.again,
            limit=ask.limit,
            examples=ask.examples,
            principal=f"api:{principal}",
            wait_seconds=15,
        )
    except DeadLetterError as error:
        raise _refusal(error) from error
    return asdict(outcome)


@router.get("/{letter}", response_model=Shown)
def show_letter(letter: str, _: Principal, client: Writer) -> Any:
    """One dead letter with its raw value and its replays."""
    try:
        found = one(client, LetterId.parse(letter))
    except DeadLetterError as error:
        raise _refusal(error) from error
    if found is None:
        raise HTTPException(404, f"no dead letter {letter[:300]}")
    return found


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _refusal(error: DeadLetterError) -> HTTPException:
    if isinstance(error, ReplayBusyError):
        return HTTPException(409, str(error), headers={"Retry-After": "10"})
    if isinstance(error, ReplayBrokenError):
        return HTTPException(503, str(error), headers={"Retry-After": "10"})
    return HTTPException(422, str(error))
