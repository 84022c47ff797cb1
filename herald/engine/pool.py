"""Connections of the reader: opened when first needed, shared, bounded, timed out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from herald.engine.errors import (
    BusyError,
    EngineError,
    NotBuiltError,
    QueryTimeoutError,
    TooExpensiveError,
    UnavailableError,
    WarehouseRefusedError,
)
from herald.settings import Settings
from herald.warehouse.client import Role, connect
from herald.warehouse.errors import WarehouseDownError

TIMEOUT_CODES = {159, 394}
MEMORY_CODES = {241, 307, 158}
BUSY_CODES = {202}
MISSING_CODES = {60, 81}
READONLY_CODE = 164
TIMEOUT_SETTING = "max_execution_time"
T = TypeVar("T")
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many questions at once, and how long one may take."""

    size: int
    seconds: int


class Pool:
    """At most `size` questions at once over kept connections.

    One clickhouse-connect client without a session serves many threads; what it bounds is nothing,
    so the gate is here. Limits may change while it runs.
    """

    def __init__(self, settings: Settings, limits: Limits, *, role: Role = "reader") -> None:
        self._settings = settings
        self._role: Role = role
        self._limits = limits
        self._busy = 0
        self._heavy = 0
        self._gate = threading.Condition()
        self._opening = threading.Lock()
        self._client: Client | None = None

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    def resize(self, limits: Limits) -> None:
        """Put new limits in force for the questions that start from now on."""
        with self._gate:
            self._limits = limits
            self._gate.notify_all()
        with self._opening:
            # not closed: questions under way still use it
            self._client = None

    def rows(
        self, sql: str, parameters: Parameters | None = None, *, heavy: bool = False
    ) -> Sequence[Sequence[Any]]:
        """Run a SELECT and return its rows.

        Args:
            sql: one SELECT.
            parameters: its bound values.
            heavy: take one of the places for heavy questions, half of the pool, so that quick
                ones always find a free connection.

        Raises:
            EngineError: of the kind that tells what happened.
        """
        with self._connection(heavy) as client:
            result: Sequence[Sequence[Any]] = self._guarded(
                lambda: client.query(sql, dict(parameters or {}))
            ).result_rows
        return result

    def stream(
        self, sql: str, parameters: Parameters, *, heavy: bool = False
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """Run a SELECT and yield its rows block by block, holding one connection meanwhile."""
        with self._connection(heavy) as client:
            context = self._guarded(lambda: client.query_row_block_stream(sql, dict(parameters)))
            with context as blocks:
                iterator = iter(blocks)
                while (block := self._guarded(lambda: next(iterator, None))) is not None:
                    yield block

    def ping(self) -> None:
        """Raise UnavailableError unless the warehouse answers a query."""
        self.rows("select 1")

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            self._drop()

    @contextmanager
    def _connection(self, heavy: bool) -> Iterator[Client]:
        deadline = time.monotonic() + self._limits.seconds
        with self._gate:
            while self._full(heavy):
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._gate.wait(remaining):
                    raise BusyError(
                        f"all {self._limits.size} connections were in use for "
                        f"{self._limits.seconds} s; ask again, or raise HERALD_ENGINE__POOL_SIZE"
                    )
            self._busy += 1
            self._heavy += heavy
        try:
            yield self._open()
        finally:
            with self._gate:
                self._busy -= 1
                self._heavy -= heavy
                # all of them: one woken heavy question might have to wait on
                self._gate.notify_all()

    def _full(self, heavy: bool) -> bool:
        size = self._limits.size
        return self._busy >= size or (heavy and self._heavy >= max(1, size // 2))

    def _open(self) -> Client:
        with self._opening:
            if self._client is None:
                self._client = self._guarded(self._connect)
            return self._client

    def _connect(self) -> Client:
        # the server ends a query at its limit; the socket waits a little longer for that answer
        client = connect(
            self._settings.warehouse, self._role, timeout_seconds=self._limits.seconds + 1
        )
        client.params[TIMEOUT_SETTING] = str(self._limits.seconds)
        try:
            client.query("select 1")
        except DatabaseError as error:
            if error.code != READONLY_CODE:
                raise
            # a read-only user of a ClickHouse server may set it only where its profile says so;
            # else the profile's own limit holds, and the socket's: the server ends what we leave
            del client.params[TIMEOUT_SETTING]
        return client

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except WarehouseDownError as error:
            raise UnavailableError(str(error)) from error
        except ClickHouseError as error:
            raise self._translated(error) from error
        except OSError as error:
            raise self._unreachable(error) from error

    def _translated(self, error: ClickHouseError) -> EngineError:
        code = error.code if isinstance(error, DatabaseError) else None
        text = str(error).splitlines()[0]
        if code in TIMEOUT_CODES or (code is None and "timed out" in text.lower()):
            return QueryTimeoutError(
                f"no answer within {self._limits.seconds} s; ask for a shorter range or fewer "
                "dimensions, or raise HERALD_ENGINE__QUERY_TIMEOUT_SECONDS"
            )
        if code in MEMORY_CODES:
            return TooExpensiveError(
                "the warehouse ran out of the memory it allows a question; ask for a shorter "
                "range or fewer dimensions"
            )
        if code in BUSY_CODES:
            return BusyError("the warehouse has too many queries at once; ask again in a moment")
        if code in MISSING_CODES:
            return NotBuiltError(
                "the mart with the answer does not exist; build the marts with `herald dbt build` "
                "or the DAG marts__build__hourly"
            )
        if code is None:
            return self._unreachable(error)
        return WarehouseRefusedError(f"the warehouse answered with error {code}; see its query log")

    def _unreachable(self, error: Exception) -> EngineError:
        where = f"{self._settings.warehouse.host}:{self._settings.warehouse.port}"
        return UnavailableError(
            f"the warehouse at {where} does not answer ({type(error).__name__}); "
            "is it up? `herald status`"
        )
