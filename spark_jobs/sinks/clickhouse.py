"""Writes to the warehouse over keep-alive HTTP: one insert an offset range, with its token."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa

from herald.settings import Warehouse
from spark_jobs.sources.ranges import OffsetRange

RETRYABLE = frozenset(
    {159, 164, 202, 203, 209, 210, 236, 241, 242, 243, 252, 279, 319, 394, 425, 999}
)
"""ClickHouse errors that pass: time-out, too many queries, memory, disk, parts, shutting down."""

TOO_MANY_PARTS = 252
OVERLOADED = frozenset({202, 241, TOO_MANY_PARTS})
"""Of these, what says that it has too much to do: queries, memory, parts."""

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
TIMEOUT_SECONDS = 120.0


class WarehouseError(Exception):
    """The warehouse refused a statement, or did not answer after every retry."""


class _AmbiguousError(Exception):
    """No answer, or one that does not say whether the rows were written."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Address:
    """Where the warehouse is and who writes; sent to tasks, so its password stays out of repr."""

    host: str
    port: int
    secure: bool
    user: str
    _password: str

    @classmethod
    def of(cls, warehouse: Warehouse) -> Address:
        """The writer's address in the settings."""
        return cls(
            warehouse.host,
            warehouse.port,
            warehouse.secure,
            warehouse.user,
            warehouse.password.get_secret_value(),
        )

    def __repr__(self) -> str:
        return f"Address({self.user}@{self.host}:{self.port})"

    def headers(self) -> dict[str, str]:
        """Authentication."""
        token = base64.b64encode(f"{self.user}:{self._password}".encode()).decode()
        return {"Authorization": f"Basic {token}"}


class ClickHouseSink:
    """One connection. Not for several threads."""

    def __init__(self, address: Address, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._address = address
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None
        self._pushbacks = (0, 0)

    def insert(
        self,
        table: str,
        rows: pa.Table,
        *,
        token: str,
        already_there: Callable[[], bool] | None = None,
    ) -> None:
        """Insert as one block. A second insert under the same token writes nothing.

        Args:
            table: database and name.
            rows: columns named as in the table; left-out columns take their defaults.
            token: identifies the rows, whatever they are.
            already_there: asked after an answer that did not come, before writing again.

        Raises:
            WarehouseError: refused, or no answer after every retry.
        """
        columns = ", ".join(f"`{name}`" for name in rows.column_names)
        self._run(
            f"INSERT INTO {table} ({columns}) FORMAT ArrowStream",
            body=_stream(rows),
            settings={
                "async_insert": "0",
                "insert_deduplicate": "1",
                "insert_deduplication_token": token,
                # the rollups behind the views know the token too; else a retry doubles them
                "deduplicate_blocks_in_dependent_materialized_views": "1",
                # what the views write is grouped already: merging it again costs 6 ms a table
                "optimize_on_insert": "0",
                # one range is one block, so that a retry is the same block
                "max_insert_block_size": "10000000",
                "min_insert_block_size_rows": "10000000",
                "min_insert_block_size_bytes": "4000000000",
                "max_partitions_per_insert_block": "0",
                "input_format_null_as_default": "1",
            },
            done=already_there,
        )

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a SELECT; `{name:Type}` in it are taken from the parameters."""
        return _rows(self._run(*_select(sql, parameters), done=None))

    def is_landed(self, part: OffsetRange) -> bool:
        """Whether the ledger has exactly this range; no, while the warehouse does not answer."""
        sql, body, settings = _select(
            "SELECT count() AS n FROM raw.landed_ranges WHERE topic = {t:String} AND "
            "`partition` = {p:UInt16} AND first_offset = {f:UInt64} AND last_offset = {l:UInt64}",
            {"t": part.topic, "p": part.partition, "f": part.first, "l": part.last},
        )
        try:
            return int(_rows(self._once(sql, body, settings))[0]["n"]) > 0
        except _AmbiguousError:
            self.close()
            return False

    def take_pushbacks(self) -> tuple[int, int]:
        """How often it was overloaded since this was last asked, and the last error; 0, 0."""
        found, self._pushbacks = self._pushbacks, (0, 0)
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(
        self,
        sql: str,
        body: bytes | None,
        settings: Mapping[str, str],
        *,
        done: Callable[[], bool] | None,
    ) -> bytes:
        for pause in (*RETRY_SECONDS, None):
            try:
                return self._once(sql, body, settings)
            except _AmbiguousError as error:
                self.close()
                if error.code in OVERLOADED:
                    self._pushbacks = (self._pushbacks[0] + 1, error.code)
                if pause is None:
                    raise WarehouseError(
                        f"warehouse at {self._address.host}:{self._address.port}: no usable "
                        f"answer to {len(RETRY_SECONDS) + 1} tries in {sum(RETRY_SECONDS):.0f} s: "
                        f"{error}"
                    ) from error
                self._sleep(pause)
                if done is not None and done():
                    return b""
        raise AssertionError("the last pause is None")

    def _once(self, sql: str, body: bytes | None, settings: Mapping[str, str]) -> bytes:
        # with a body, the statement goes into the address
        query = urlencode({"query": sql, **settings}) if body is not None else urlencode(settings)
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request(
                "POST",
                f"/?{query}",
                body=body if body is not None else sql.encode(),
                headers=self._address.headers(),
            )
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _AmbiguousError(f"{type(error).__name__}: {error}") from error
        code = int(response.headers.get("X-ClickHouse-Exception-Code") or 0)
        if response.status == 200 and not code:
            return answer
        message = answer[:600].decode("utf-8", "replace").strip()
        # a 500 without a code is a proxy's, or a server's that is going down
        if (
            code in RETRYABLE
            or response.status in {429, 502, 503, 504}
            or (response.status == 500 and not code)
        ):
            raise _AmbiguousError(message, code)
        raise WarehouseError(f"{message} (HTTP {response.status}, in {sql[:120]})")

    def _connect(self) -> http.client.HTTPConnection:
        address = self._address
        if address.secure:
            return http.client.HTTPSConnection(
                address.host,
                address.port,
                timeout=TIMEOUT_SECONDS,
                context=ssl.create_default_context(),
            )
        return http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)


def _select(
    sql: str, parameters: Mapping[str, Any] | None
) -> tuple[str, bytes | None, dict[str, str]]:
    settings = {f"param_{name}": str(value) for name, value in (parameters or {}).items()}
    # 64-bit numbers as numbers
    settings["output_format_json_quote_64bit_integers"] = "0"
    return f"{sql} FORMAT JSONEachRow", None, settings


def _rows(answer: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines() if line]


def _stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    batches: Sequence[pa.RecordBatch] = rows.combine_chunks().to_batches()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    result: bytes = sink.getvalue().to_pybytes()
    return result
