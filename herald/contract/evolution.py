"""The migration that an additive change of the contract needs, written from the change itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TABLES = {"event": "raw.events"}
"""Record to table; the reference records' tables are named for them."""


def migration(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """SQL that adds the columns of the fields that `new` has and `old` has not; '' for none.

    A column of `raw.events` takes its value from `properties`, where the field was kept until now:
    rows of old parts, and rows that a landing job of the old contract still writes.
    """
    statements = [
        statement
        for record, fields in new["records"].items()
        if record != "landed"
        for statement in _columns(record, old["records"].get(record, {}), fields)
    ]
    if not statements:
        return ""
    title = f"-- Contract {new['version']}: columns of the fields that {old['version']} had not."
    return "\n".join([title, *statements, ""])


def _columns(record: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    table = TABLES.get(record, f"raw.{record}")
    previous = ""
    for name, field in new.items():
        if name not in old and old:
            kind = field["column"]
            default = f" DEFAULT {promoted(name, kind)}" if record == "event" else ""
            default += f" CODEC({field['codec']})" if field["codec"] else ""
            place = f"AFTER `{previous}`" if previous else "FIRST"
            yield f"ALTER TABLE {table} ADD COLUMN `{name}` {kind}{default} {place};"
            if record == "event":
                yield f"ALTER TABLE {table} MATERIALIZE COLUMN `{name}`;"
        previous = name


def promoted(name: str, kind: str) -> str:
    """Expression over `properties` that gives the field's value, or the type's empty one."""
    if "DateTime64" in kind:
        found = (
            f"parseDateTime64BestEffortOrNull(JSONExtractString(properties, '{name}'), 3, 'UTC')"
        )
        return found if kind.startswith("Nullable") else f"ifNull({found}, toDateTime64(0, 3))"
    quoted = kind.replace("'", "\\'")
    return f"JSONExtract(properties, '{name}', '{quoted}')"
