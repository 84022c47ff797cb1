"""Arrow, Spark and ClickHouse schemas, derived from the pydantic contract.

Spark's is a DDL string, so that nothing here imports pyspark.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from herald.contract.columns import Column
from herald.contract.events import Event, Landed
from herald.contract.references import Reference

if TYPE_CHECKING:
    import pyarrow as pa

_SPARK = {
    "string": "STRING",
    "dictionary": "STRING",
    "bool": "BOOLEAN",
    "uint8": "SMALLINT",
    "uint16": "INT",
    "uint32": "BIGINT",
    "uint64": "BIGINT",
    "double": "DOUBLE",
    "decimal": "DECIMAL(18,4)",
    "timestamp[ms]": "TIMESTAMP",
    "list<string>": "ARRAY<STRING>",
}


@dataclass(frozen=True, slots=True)
class StoredField:
    """One column: its name, storage and description."""

    name: str
    column: Column
    description: str
    required: bool

    @property
    def arrow_type(self) -> pa.DataType:
        """Type of the value in a record batch."""
        import pyarrow as pa  # the warehouse environment derives DDL without it

        match self.column.arrow:
            case "dictionary":
                return pa.dictionary(pa.int32(), pa.string())
            case "list<string>":
                return pa.list_(pa.string())
            case "timestamp[ms]":
                return pa.timestamp("ms", tz="UTC")
            case "decimal":
                return pa.decimal128(18, 4)
            case name:
                return pa.type_for_alias(name)

    @property
    def ddl(self) -> str:
        """Column clause of a CREATE TABLE."""
        codec = f" CODEC({self.column.codec})" if self.column.codec else ""
        return f"`{self.name}` {self.column.clickhouse}{codec}"


def _column(info: FieldInfo) -> Column:
    found = [m for m in info.metadata if isinstance(m, Column)]
    if len(found) != 1:
        raise TypeError(f"field needs exactly one Column annotation, has {len(found)}: {info}")
    return found[0]


@cache
def stored_fields(model: type[BaseModel]) -> tuple[StoredField, ...]:
    """Columns of one model, in order of declaration."""
    return tuple(
        StoredField(
            info.alias or name, _column(info), info.description or "", required=info.is_required()
        )
        for name, info in model.model_fields.items()
    )


@cache
def event_fields() -> tuple[StoredField, ...]:
    """Columns of `raw.events`: the envelope, then what landing adds."""
    return stored_fields(Event) + stored_fields(Landed)


@cache
def reference_fields(model: type[Reference]) -> tuple[StoredField, ...]:
    """Columns of one reference table: the entity, then what landing adds."""
    landing = tuple(f for f in stored_fields(Landed) if f.name != "action")
    return stored_fields(model) + landing


def arrow_schema(fields: tuple[StoredField, ...]) -> pa.Schema:
    """Arrow schema of the given columns; optional numbers and times are nullable."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(f.name, f.arrow_type, nullable=f.column.clickhouse.startswith("Nullable"))
            for f in fields
        ]
    )


def spark_ddl(fields: tuple[StoredField, ...]) -> str:
    """Spark schema of the given columns, as `StructType.fromDDL` reads it."""
    return ", ".join(f"`{f.name}` {_SPARK[f.column.arrow]}" for f in fields)


def clickhouse_columns(fields: tuple[StoredField, ...]) -> dict[str, str]:
    """Name to ClickHouse type, as `system.columns` shows it."""
    return {f.name: f.column.clickhouse for f in fields}
