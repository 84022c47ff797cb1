"""AnalyticsEngine: the one way by which API, reports and alerts read metrics."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from herald.engine.audit import Audit, Entry
from herald.engine.cache import Cache, Level, Shared
from herald.engine.compile import Compiled, compile_query
from herald.engine.errors import (
    EngineError,
    InvalidQueryError,
    Problem,
    TooExpensiveError,
    TooManyRowsError,
)
from herald.engine.freshness import DataVersion, Freshness
from herald.engine.paging import Position
from herald.engine.pool import Limits, Pool
from herald.engine.query import Query
from herald.engine.telemetry import Telemetry
from herald.metrics.registry import SCOPES, definition_version
from herald.settings import Engine, Settings, Valkey

PROBE_SECONDS = 3


class Column(BaseModel):
    """One column of an answer."""

    name: str
    kind: str
    unit: str = ""
    label: str = ""
    definition_version: str = ""


class Answer(BaseModel):
    """Rows, and all that is needed to read them right."""

    rows: list[dict[str, Any]]
    columns: list[Column]
    date_scope: str
    scope_label: str
    audience: str
    time_zone: str
    start: datetime
    end: datetime
    data_as_of: datetime | None
    data_version: str
    next_cursor: str | None
    truncated: bool
    cache: Level
    seconds: float


class AnalyticsEngine:
    """Answers questions from the marts.

    Args:
        settings: where warehouse and cache are, and the limits.
        surface: who asks through this engine, such as `api`; goes to the audit.
        registry: where its Prometheus figures go; one of its own when None.
    """

    def __init__(
        self, settings: Settings, *, surface: str, registry: CollectorRegistry | None = None
    ) -> None:
        self._settings = settings
        self._engine = settings.engine
        self._surface = surface
        self._telemetry = Telemetry(registry or CollectorRegistry())
        self._pool = Pool(settings, _limits(self._engine))
        # a place of its own, or readiness would wait behind the questions
        self._probe = Pool(settings, Limits(size=2, seconds=PROBE_SECONDS))
        self._freshness = Freshness(self._pool)
        self._cache = Cache(Shared(_url(settings.valkey)), **_cache_limits(self._engine))
        self._audit = Audit(settings.warehouse)

    def answer(self, query: Query, *, principal: str) -> Answer:
        """Answer one page of a question.

        Raises:
            EngineError: what is wrong, with a code and the fix.
        """
        started = time.perf_counter()
        outcome, level, rows = "ok", "none", 0
        try:
            answer = self._answer(query, started)
            level, rows = answer.cache, len(answer.rows)
        except EngineError as error:
            outcome = error.code
            raise
        else:
            return answer
        finally:
            self._note(query, principal, outcome, level, rows, time.perf_counter() - started)

    def stream(self, query: Query, *, principal: str) -> Iterator[dict[str, Any]]:
        """Yield every row of an answer, up to the row limit, past the caches.

        Raises:
            TooManyRowsError: after the last row within the limit, when there are more.
            EngineError: as `answer`.
        """
        started = time.perf_counter()
        outcome, rows = "cancelled", 0
        try:
            query.check()
            compiled = compile_query(query)
            heavy = self._admit(compiled)
            limit = self._engine.max_rows
            sql, parameters = compiled.page(limit=limit + 1, offset=0)
            for block in self._pool.stream(sql, parameters, heavy=heavy):
                for row in _records(query, compiled, block):
                    if rows == limit:
                        raise TooManyRowsError(
                            f"the answer has more than {limit} rows; narrow the range or the "
                            "dimensions, or raise HERALD_ENGINE__MAX_ROWS"
                        )
                    yield row
                    rows += 1
            outcome = "ok"
        except EngineError as error:
            outcome = error.code
            raise
        finally:
            self._note(query, principal, outcome, "off", rows, time.perf_counter() - started)

    def ready(self) -> dict[str, str]:
        """What it depends on: `ok`, or what is wrong. The cache is not needed for an answer."""
        try:
            self._probe.ping()
            warehouse = "ok"
        except EngineError as error:
            warehouse = str(error)
        shared = self._cache.shared
        cache = "ok" if shared is not None and shared.ping() else "does not answer; not needed"
        return {"warehouse": warehouse, "valkey": cache}

    def reload(self, engine: Engine) -> None:
        """Put new limits in force without a restart; questions under way keep the old ones."""
        self._engine = engine
        self._pool.resize(_limits(engine))
        self._cache.configure(**_cache_limits(engine))

    def close(self) -> None:
        """Write the audit out and close the connections."""
        self._audit.close()
        self._pool.close()
        self._probe.close()
        if self._cache.shared is not None:
            self._cache.shared.close()

    def _answer(self, query: Query, started: float) -> Answer:
        query.check()
        data = self._freshness.current()
        position = Position.of(query, data)
        limit = self._page_rows(query, position)
        compiled = compile_query(query)
        # the SQL too: after a release with another definition, old answers must not come back
        definition = hashlib.sha256(compiled.sql.encode()).hexdigest()[:16]
        key = f"{data.version}:{query.fingerprint()}:{definition}:{position.offset}:{limit}"
        value, level = self._cache.get(key, lambda: self._compute(query, compiled, position, limit))
        page = orjson.loads(value)
        after = position.after(limit)
        at_limit = after.offset >= self._engine.max_rows
        return Answer(
            rows=page["rows"],
            columns=_columns(query),
            date_scope=query.scope,
            scope_label=SCOPES[query.scope],
            audience=query.audience,
            time_zone=query.time_zone,
            start=query.range()[0],
            end=query.range()[1],
            data_as_of=data.as_of,
            data_version=data.version,
            next_cursor=after.text() if page["more"] and not at_limit else None,
            truncated=page["more"] and at_limit,
            cache=level,
            seconds=round(time.perf_counter() - started, 6),
        )

    def _compute(self, query: Query, compiled: Compiled, position: Position, limit: int) -> bytes:
        heavy = self._admit(compiled)
        sql, parameters = compiled.page(limit=limit + 1, offset=position.offset)
        found = self._pool.rows(sql, parameters, heavy=heavy)
        rows = list(_records(query, compiled, found[:limit]))
        return orjson.dumps({"rows": rows, "more": len(found) > limit}, default=str)

    def _admit(self, compiled: Compiled) -> bool:
        """Refuse what would read too much; else say whether it is heavy."""
        estimate = self._pool.rows(f"explain estimate {compiled.sql}", compiled.parameters)
        rows = sum(int(line[3]) for line in estimate)
        self._telemetry.estimated_rows.observe(rows)
        if rows > self._engine.max_read_rows:
            raise TooExpensiveError(
                f"it would read about {rows:,} rows of {compiled.table}, more than the "
                f"{self._engine.max_read_rows:,} allowed; ask for a shorter range, or raise "
                "HERALD_ENGINE__MAX_READ_ROWS"
            )
        return rows > self._engine.heavy_read_rows

    def _page_rows(self, query: Query, position: Position) -> int:
        asked = query.limit or min(self._engine.page_rows, self._engine.max_rows)
        if asked > self._engine.max_rows:
            raise InvalidQueryError.of(
                [Problem("limit", str(asked), f"at most {self._engine.max_rows} rows")]
            )
        if position.offset >= self._engine.max_rows:
            raise InvalidQueryError.of(
                [Problem("cursor", str(position.offset), "beyond the row limit")]
            )
        return min(asked, self._engine.max_rows - position.offset)

    def _note(
        self, query: Query, principal: str, outcome: str, level: str, rows: int, seconds: float
    ) -> None:
        self._telemetry.questions.labels(self._surface, outcome, level).inc()
        self._telemetry.seconds.labels(self._surface).observe(seconds)
        self._telemetry.audit_dropped.set(self._audit.dropped)
        self._audit.record(
            Entry(
                asked_at=datetime.now(UTC),
                tenant_id=query.tenant_id,
                principal=principal,
                surface=self._surface,
                query=query.model_dump_json(exclude={"cursor"}, exclude_defaults=True),
                query_hash=query.fingerprint(),
                rows=rows,
                seconds=seconds,
                outcome=outcome,
                cache=level,
            )
        )


def _records(
    query: Query, compiled: Compiled, rows: Sequence[Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    zone = ZoneInfo(query.time_zone)
    for row in rows:
        record = dict(zip(compiled.columns, row, strict=True))
        if compiled.time_index is not None:
            moment = datetime.fromtimestamp(row[compiled.time_index], zone)
            record[compiled.columns[compiled.time_index]] = moment.isoformat()
        yield record


def _columns(query: Query) -> list[Column]:
    resolved = {e.name: e for e in query.resolved()}
    columns = []
    for name in query.columns():
        base = resolved.get(name.removesuffix("__previous"))
        if base is None:
            kind = "dimension" if name in query.dimensions else "time"
            columns.append(Column(name=name, kind=kind, label=name.replace("_", " ").capitalize()))
            continue
        previous = ", previous period" if name.endswith("__previous") else ""
        columns.append(
            Column(
                name=name,
                kind="metric",
                unit=base.metric.unit,
                label=base.label + previous,
                definition_version=definition_version(base.metric),
            )
        )
    return columns


def _limits(engine: Engine) -> Limits:
    return Limits(size=engine.pool_size, seconds=engine.query_timeout_seconds)


def _cache_limits(engine: Engine) -> dict[str, int]:
    return {
        "entries": engine.cache_entries,
        "seconds": engine.cache_seconds,
        "wait_seconds": engine.query_timeout_seconds,
    }


def _url(valkey: Valkey) -> str:
    password = valkey.password.get_secret_value()
    login = f":{password}@" if password else ""
    return f"redis://{login}{valkey.host}:{valkey.port}/0"


__all__ = ["AnalyticsEngine", "Answer", "Column", "DataVersion"]
