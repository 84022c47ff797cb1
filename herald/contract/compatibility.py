"""What a contract promises, as data, and whether a newer one keeps every promise of an older one.

A producer that was right yesterday must be right today, and a column that was there must stay what
it was. So a change is additive (a new optional field, a new value of a list, a wider limit) or
incompatible. `released/` holds the description of every version that was ever released, and events
that were valid under it, for the rules that no description shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from herald.contract.errors import ErrorClass
from herald.contract.events import CONTRACT_VERSION, Event, Landed
from herald.contract.judging import Limits, RejectedError, judge_event, to_ms
from herald.contract.references import REFERENCES
from herald.contract.schemas import stored_fields
from herald.contract.vocabulary import EVENT_TYPES, AbortReason, BotReason
from herald.settings import Landing

RELEASED = Path(__file__).parent / "released"

Description = dict[str, Any]
"""`version`, `records` {record: {field: {...}}}, `lists` {name: [values]}; plain JSON."""

_UPPER = {"maxLength", "maximum", "maxItems", "max_digits", "decimal_places"}
_LOWER = {"minLength", "minimum", "minItems"}
_IGNORED = {"title", "description", "default", "additionalProperties"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. where: `record.field` or the list's name."""

    kind: Literal["additive", "incompatible"]
    where: str
    what: str


class ContractError(Exception):
    """The released versions cannot be read, or the contract must not be released."""


def describe() -> Description:
    """The contract of this code."""
    records: dict[str, type[BaseModel]] = {"event": Event, "landed": Landed}
    records |= {model.table: model for model in REFERENCES}
    return {
        "version": CONTRACT_VERSION,
        "records": {name: describe_record(model) for name, model in records.items()},
        "lists": {
            "event_types": sorted(EVENT_TYPES),
            "abort_reasons": sorted(AbortReason),
            "bot_reasons": sorted(BotReason),
            "error_classes": sorted(ErrorClass),
        },
    }


def describe_record(model: type[BaseModel]) -> dict[str, Any]:
    """Fields of one record, in the order of their columns: what is accepted and how it is kept."""
    schema = model.model_json_schema(mode="validation", by_alias=True)
    fields = {}
    for stored, info in zip(stored_fields(model), model.model_fields.values(), strict=True):
        own = schema["properties"][stored.name]
        accepts = sorted(_options(own, schema.get("$defs", {})), key=json.dumps)
        digits = {
            name: value
            for rule in info.metadata
            for name in ("max_digits", "decimal_places")
            if (value := getattr(rule, name, None)) is not None
        }
        fields[stored.name] = {
            "required": stored.required,
            "default": own.get("default"),
            "accepts": [{**option, **digits} for option in accepts],
            "column": stored.column.clickhouse,
            "codec": stored.column.codec or "",
        }
    return fields


def released(folder: Path = RELEASED) -> dict[str, Description]:
    """Every released description by version, oldest first.

    Raises:
        ContractError: none, or one that does not say the version of its name.
    """
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda p: _number(p.stem)):
        description = json.loads(path.read_text(encoding="utf-8"))
        if description.get("version") != path.stem:
            raise ContractError(f"{path.name} says it is version {description.get('version')!r}")
        found[path.stem] = description
    if not found:
        raise ContractError(f"no released contract in {folder}")
    return found


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Differences from an older contract to a newer one; incompatible ones first."""
    changes = [*_records(old["records"], new["records"]), *_lists(old["lists"], new["lists"])]
    return sorted(changes, key=lambda c: (c.kind == "additive", c.where, c.what))


def check(
    current: Mapping[str, Any], versions: Mapping[str, Description]
) -> list[tuple[str, Change]]:
    """What stands against the current contract: (released version, change).

    An additive change counts too while its version is released already: what producers were told
    under that number must not grow unseen.
    """
    problems = []
    for version, description in versions.items():
        for change in compare(description, current):
            if change.kind == "incompatible":
                problems.append((version, change))
            elif version == current["version"]:
                what = f"{change.what}, but {version} is released: raise CONTRACT_VERSION"
                problems.append((version, Change("incompatible", change.where, what)))
    newest = list(versions)[-1]
    if current["version"] not in versions and _number(current["version"]) < _number(newest):
        what = f"{current['version']} is older than {newest}, which is released"
        problems.append((newest, Change("incompatible", "version", what)))
    return problems


def check_examples(folder: Path = RELEASED) -> list[tuple[str, Change]]:
    """Events of the released versions that the contract of this code refuses."""
    now_ms, limits = to_ms(datetime(2100, 1, 1, tzinfo=UTC)), Limits.of(Landing())
    problems = []
    for version in released(folder):
        for number, line in enumerate((folder / f"{version}.ndjson").read_bytes().splitlines(), 1):
            try:
                judge_event(line, now_ms, limits)
            except RejectedError as error:
                what = f"{error.message} (line {number} of {version}.ndjson)"
                problems.append((version, Change("incompatible", f"event.{error.field}", what)))
    return problems


def release(folder: Path = RELEASED) -> Path | None:
    """Write the current contract as released; None when it is already.

    Raises:
        ContractError: it is not compatible with what was released.
    """
    current, versions = describe(), released(folder)
    if problems := check(current, versions):
        raise ContractError("; ".join(f"{c.where}: {c.what}" for _, c in problems[:5]))
    if current["version"] in versions:
        return None
    path = folder / f"{current['version']}.json"
    examples = folder / f"{current['version']}.ndjson"
    if not examples.is_file():
        raise ContractError(
            f"{examples.name} is missing: write events that use what is new, one a line, beside "
            "the released files"
        )
    path.write_text(render(current), encoding="utf-8")
    return path


def render(description: Mapping[str, Any]) -> str:
    """Text of a released file."""
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def _records(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for record, fields in old.items():
        if record not in new:
            yield Change("incompatible", record, "the record was removed")
            continue
        for name, field in fields.items():
            where = f"{record}.{name}"
            if name not in new[record]:
                yield Change("incompatible", where, "the field was removed")
            else:
                yield from _field(where, field, new[record][name])
        for name, field in new[record].items():
            if name not in fields:
                yield _added(f"{record}.{name}", required=field["required"] and record != "landed")
    for record in new:
        if record not in old:
            yield Change("additive", record, "a new record")


def _added(where: str, *, required: bool) -> Change:
    if required:
        return Change("incompatible", where, "a new field that is required")
    return Change("additive", where, "a new optional field")


def _field(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    if new["required"] and not old["required"]:
        yield Change("incompatible", where, "it became required")
    elif old["required"] and not new["required"]:
        yield Change("additive", where, "it became optional")
    if old["column"] != new["column"]:
        what = f"its column changed from {old['column']} to {new['column']}"
        yield Change("incompatible", where, what)
    # the version that an event without one counts as goes with the contract
    if old["default"] != new["default"] and where != "event.schema_version":
        what = f"its default changed from {old['default']!r} to {new['default']!r}"
        yield Change("incompatible", where, what)
    kinds = {_kind(option): option for option in new["accepts"]}
    for option in old["accepts"]:
        if _kind(option) not in kinds:
            yield Change("incompatible", where, f"it no longer accepts {_kind(option)}")
        else:
            yield from _limits(where, option, kinds[_kind(option)])
    before = {_kind(option) for option in old["accepts"]}
    for kind in kinds:
        if kind not in before:
            yield Change("additive", where, f"it accepts {kind} too")


def _limits(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted((old.keys() | new.keys()) - {"type", "format"}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if name == "items" and before is not None and after is not None:
            yield from _limits(f"{where}[]", before, after)
            if _kind(before) != _kind(after):
                what = f"it holds {_kind(after)} instead of {_kind(before)}"
                yield Change("incompatible", where, what)
            continue
        if name == "enum" and before is not None and after is not None:
            yield from _values(where, before, after)
            continue
        wider = after is None or (
            before is not None
            and ((name in _UPPER and after > before) or (name in _LOWER and after < before))
        )
        what = f"{name} changed from {before} to {after}"
        yield Change("additive" if wider else "incompatible", where, what)


def _lists(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name, values in old.items():
        yield from _values(name, values, new.get(name, []))


def _values(where: str, old: list[Any], new: list[Any]) -> Iterator[Change]:
    for value in old:
        if value not in new:
            yield Change("incompatible", where, f"{value!r} was removed")
    for value in new:
        if value not in old:
            yield Change("additive", where, f"{value!r} is new")


def _options(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The alternatives of a JSON schema, each without its texts."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            yield from _options(option, definitions)
        return
    plain = {name: value for name, value in schema.items() if name not in _IGNORED}
    if isinstance(plain.get("items"), dict):
        plain["items"] = next(_options(plain["items"], definitions))
    yield plain


def _kind(option: Mapping[str, Any]) -> str:
    form = option.get("format")
    return f"{option.get('type', 'anything')}{f' ({form})' if form else ''}"


def _number(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        raise ContractError(f"{version!r} is no version such as 1.1") from None
