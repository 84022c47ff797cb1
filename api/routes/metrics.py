"""Metrics: the catalogue, one metric by URL, any question by body."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Query as QueryString
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.security import Principal
from herald.engine.engine import AnalyticsEngine, Answer
from herald.engine.errors import EngineError, InvalidQueryError
from herald.engine.query import Filter, Query, TimeGrain
from herald.metrics.catalogue import DimensionEntry, MetricEntry, dimensions, entries, entry
from herald.metrics.registry import Audience, Scope

router = APIRouter(prefix="/v1", tags=["metrics"])


class Catalogue(BaseModel):
    """Every metric and dimension."""

    metrics: list[MetricEntry]
    dimensions: list[DimensionEntry]


class Ask(BaseModel):
    """A question about one metric, in the URL."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    tenant: str = Field(description="Whose data.")
    start: datetime = Field(alias="from", description="First instant, or a date.")
    end: datetime = Field(alias="to", description="First instant after the range, or a date.")
    dimensions: str = Field("", description="Comma-separated.")
    filter: list[str] = Field(
        [], description="`dimension:value,value`; `!dimension:value` drops them. Repeatable."
    )
    grain: TimeGrain = "none"
    time_zone: str = Field("UTC", description="IANA name.")
    scope: Scope = "sent"
    audience: Audience = "all"
    order: str = Field("", description="Comma-separated output columns; a leading - descends.")
    limit: int | None = Field(None, ge=1)
    cursor: str | None = None
    compare: Literal["none", "previous"] = "none"

    def query(self, metric: str) -> Query:
        """As a question for the engine.

        Raises:
            InvalidQueryError: some part is wrong.
        """
        try:
            return self._query(metric)
        except ValidationError as error:
            raise InvalidQueryError.from_validation(error) from error

    def _query(self, metric: str) -> Query:
        return Query(
            tenant_id=self.tenant,
            metrics=(metric,),
            dimensions=_split(self.dimensions),
            filters=tuple(Filter.parse(text) for text in self.filter),
            start=self.start,
            end=self.end,
            grain=self.grain,
            time_zone=self.time_zone,
            scope=self.scope,
            audience=self.audience,
            order=_split(self.order),
            limit=self.limit,
            cursor=self.cursor,
            compare=self.compare,
        )


@router.get("/metrics")
async def catalogue(_: Principal) -> Catalogue:
    """Every metric with its definition, and the dimensions to split it by."""
    return Catalogue(metrics=entries(), dimensions=dimensions())


@router.get("/metrics/{metric}", response_model=Answer)
def read_metric(
    metric: str, ask: Annotated[Ask, QueryString()], principal: Principal, request: Request
) -> Response:
    """Read one metric, such as `unique_open_rate` or `unique_open_rate__human`."""
    if entry(metric) is None:
        # a resource that does not exist, with the near matches that the engine finds
        try:
            ask.query(metric).check()
        except InvalidQueryError as error:
            raise HTTPException(404, str(error)) from error
    return _sent(_engine(request).answer(ask.query(metric), principal=principal))


@router.post("/query", response_model=Answer)
def ask_query(query: Query, principal: Principal, request: Request) -> Response:
    """Answer one page of a question with any number of metrics."""
    return _sent(_engine(request).answer(query, principal=principal))


@router.post("/query/stream", response_class=StreamingResponse)
def stream_query(query: Query, principal: Principal, request: Request) -> StreamingResponse:
    """Every row as JSON lines. An error after the first row is a last line `{"error": ...}`."""
    rows = _engine(request).stream(query, principal=principal)
    # the first row is fetched before the status goes out, so that most errors have a status
    first = next(rows, None)
    return StreamingResponse(_lines(first, rows), media_type="application/x-ndjson")


def _lines(first: dict[str, Any] | None, rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    if first is None:
        return
    yield orjson.dumps(first, default=str) + b"\n"
    try:
        for row in rows:
            yield orjson.dumps(row, default=str) + b"\n"
    except EngineError as error:
        yield orjson.dumps({"error": {"code": error.code, "detail": str(error)}}) + b"\n"


def _sent(answer: Answer) -> Response:
    # written once: FastAPI would validate and copy every row again
    return Response(answer.model_dump_json(), media_type="application/json")


def _engine(request: Request) -> AnalyticsEngine:
    engine: AnalyticsEngine = request.app.state.engine
    return engine


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
