"""How a contract field is stored: one annotation, from which every schema is derived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal[
    "identity", "who", "message", "experiment", "where", "engagement", "failure", "value", "landing"
]


@dataclass(frozen=True, slots=True)
class Column:
    """Storage of one field.

    clickhouse: column type in ClickHouse, without codec.
    arrow: Arrow type name of the parsed value, as `pyarrow.type_for_alias` reads it,
        or `dictionary` for a string with few values, `list<string>`, or `decimal` for 18 digits,
        4 of them decimal (a double would lose them in ClickHouse, which cuts instead of rounds).
    codec: ClickHouse codec list, or None for the server's default.
    group: the heading it stands under in the reference page.
    """

    clickhouse: str
    arrow: str
    group: Group
    codec: str | None = "ZSTD(1)"


def low(group: Group) -> Column:
    """A string with few distinct values."""
    return Column("LowCardinality(String)", "dictionary", group, None)


def text(group: Group) -> Column:
    """A string with many distinct values."""
    return Column("String", "string", group)
