"""The exact path: one record judged by the pydantic contract, with the reason when it is refused.

Every dead letter is decided here, and every event that comes over HTTP or is replayed. The
vectorised path in `spark_jobs.transforms.events` only accepts what it is certain of and sends the
rest to these functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from herald.contract.errors import ErrorClass
from herald.contract.events import Event
from herald.contract.references import Reference
from herald.contract.schemas import stored_fields
from herald.contract.vocabulary import EVENT_TYPES
from herald.settings import Landing

RESERVED = frozenset({"action", "_topic", "_partition", "_offset", "landed_at"})
"""Names that the landing job writes itself."""

SHOWN_CHARS = 80
"""How much of a wrong value a message repeats."""

_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EVENT_FIELDS = frozenset(Event.model_fields)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the job's settings add to the contract; times in ms since 1970 UTC."""

    max_event_bytes: int
    future_tolerance_ms: int
    oldest_ms: int

    @classmethod
    def of(cls, landing: Landing) -> Limits:
        """Limits of the settings. Raises ValueError if `oldest_event` is no time."""
        return cls(
            landing.max_event_bytes,
            landing.future_tolerance_seconds * 1_000,
            to_ms(datetime.fromisoformat(landing.oldest_event)),
        )


class RejectedError(Exception):
    """A record that is dead-lettered: its class, the field (or '') and the rule it broke.

    `message` says all in one line; `value` (cut, or '') and `rule` are its parts.
    """

    def __init__(
        self,
        error_class: ErrorClass,
        field: str,
        message: str,
        *,
        value: str = "",
        rule: str = "",
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.field = field
        self.message = message
        self.value = value
        self.rule = rule or message.removeprefix(f"{field}: ").removeprefix(f"{value}: ")


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970 UTC, cut, not rounded."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000 + delta.microseconds // 1_000


def judge_event(value: bytes, now_ms: int, limits: Limits) -> dict[str, Any]:
    """The row of `raw.events` that a Kafka value becomes, without the columns landing adds.

    Times are ints (ms), money Decimal, `properties` JSON text with the unknown keys merged in.
    `now_ms` is the clock that future times are judged by.

    Raises:
        RejectedError: the first class of `ErrorClass` that applies.
    """
    text, pairs = _open(value, limits)
    try:
        event = Event.model_validate_json(text, strict=True)
    except ValidationError as error:
        _refuse(error, dict(pairs), known_types=EVENT_TYPES)
    _check_times(event, ("occurred_at", "ingested_at"), now_ms, limits)
    row: dict[str, Any] = {
        name: getattr(event, name) for name in _EVENT_FIELDS if name != "properties"
    }
    channel, _, action = event.event_type.partition(".")
    row |= {
        "event_id": str(event.event_id),
        "occurred_at": to_ms(event.occurred_at),
        "ingested_at": to_ms(event.ingested_at) if event.ingested_at else None,
        "suspected_bot_reasons": list(event.suspected_bot_reasons),
        "channel": channel,
        "action": action,
        "properties": _merge_properties(text) if event.model_extra else _raw(text, "properties"),
    }
    return row


def judge_reference(
    value: bytes, model: type[Reference], now_ms: int, limits: Limits
) -> dict[str, Any]:
    """The row of a reference table that a Kafka value becomes. Raises RejectedError."""
    text, pairs = _open(value, limits)
    try:
        record = model.model_validate_json(text, strict=True)
    except ValidationError as error:
        _refuse(error, dict(pairs), known_types=None)
    _check_times(record, ("updated_at",), now_ms, limits)
    return {f.name: _stored(getattr(record, f.name), f.column.arrow) for f in stored_fields(model)}


def _stored(value: Any, arrow: str) -> Any:
    if isinstance(value, datetime):
        return to_ms(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if arrow == "decimal" and value is not None:
        return Decimal(str(value)).quantize(Decimal("0.0001"))
    return value


def _open(value: bytes, limits: Limits) -> tuple[str, Sequence[tuple[str, Any]]]:
    """Text and top-level pairs of a value, or the reason why it is no usable JSON object."""
    if not value.strip():
        raise RejectedError(ErrorClass.EMPTY, "", "the value is empty; an event is a JSON object")
    if len(value) > limits.max_event_bytes:
        raise RejectedError(
            ErrorClass.TOO_LARGE,
            "",
            f"{len(value)} bytes; at most {limits.max_event_bytes} are accepted",
        )
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RejectedError(
            ErrorClass.INVALID_UTF8, "", f"byte {error.start} is not UTF-8: {error.reason}"
        ) from None
    document = _parse(text)
    if not isinstance(document, _Pairs):
        raise RejectedError(
            ErrorClass.NOT_AN_OBJECT, "", f"{_short(text)} is JSON, but not an object"
        )
    names = [name for name, _ in document]
    if len(set(names)) != len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise RejectedError(
            ErrorClass.DUPLICATE_KEY,
            twice[:256],
            f"{twice[:SHOWN_CHARS]}: the key occurs more than once",
        )
    for name in names:
        if name in RESERVED:
            raise RejectedError(
                ErrorClass.RESERVED_NAME, name, f"{name}: only the landing job writes this name"
            )
    return text, document


class _Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object as its pairs, so that a doubled key shows."""

    __slots__ = ()


def _parse(text: str) -> Any:
    try:
        document = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_constant)
        # json.loads lets half a surrogate pair and numbers beyond any type pass; msgspec does not
        msgspec.json.decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise RejectedError(
            ErrorClass.MALFORMED_JSON, "", f"{_short(text)} is not JSON: {error}"
        ) from None
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _refuse(
    error: ValidationError, document: dict[str, Any], known_types: frozenset[str] | None
) -> NoReturn:
    """Turn pydantic's list of errors into the one that ranks first."""
    ranked = sorted(
        ((_class_of(e), e) for e in error.errors(include_url=False)),
        key=lambda pair: list(ErrorClass).index(pair[0]),
    )
    error_class, first = ranked[0]
    event_type = document.get("event_type")
    if (
        known_types is not None
        and error_class is ErrorClass.INVALID_VALUE
        and isinstance(event_type, str)
        and event_type not in known_types
    ):
        raise RejectedError(
            ErrorClass.UNKNOWN_EVENT_TYPE,
            "event_type",
            f"event_type: {_short(event_type)} is no known `<channel>.<action>`",
            value=_short(event_type),
            rule="is no known `<channel>.<action>`",
        ) from None
    field = ".".join(str(part) for part in first["loc"])
    rule = first["msg"].removeprefix("Value error, ")
    if not field:  # a rule over several fields begins with the name of the one to change
        field, _, rule = rule.partition(": ")
        raise RejectedError(
            error_class, field, f"{field}: {rule[:400]}", value=_short(document.get(field))
        ) from None
    value = "" if error_class is ErrorClass.MISSING_FIELD else _short(first.get("input"))
    shown = f"{value}: " if value else ""
    raise RejectedError(
        error_class, field[:256], f"{field}: {shown}{rule[:400]}", value=value, rule=rule[:400]
    ) from None


def _class_of(error: ErrorDetails) -> ErrorClass:
    kind = error["type"]
    if kind == "missing":
        return ErrorClass.MISSING_FIELD
    if kind.endswith("_type") or kind in {"int_from_float", "extra_forbidden"}:
        return ErrorClass.WRONG_TYPE
    return ErrorClass.INVALID_VALUE


def _check_times(record: BaseModel, names: Sequence[str], now_ms: int, limits: Limits) -> None:
    for name, time in _times(record, names):
        ms = to_ms(time)
        if ms > now_ms + limits.future_tolerance_ms:
            raise RejectedError(
                ErrorClass.TIMESTAMP_IN_FUTURE,
                name,
                f"{name}: {time.isoformat()} is more than {limits.future_tolerance_ms // 1_000} s "
                "ahead of the platform's clock",
                value=time.isoformat(),
            )
        if ms < limits.oldest_ms:
            oldest = datetime.fromtimestamp(limits.oldest_ms / 1_000, UTC).isoformat()
            raise RejectedError(
                ErrorClass.TIMESTAMP_TOO_OLD,
                name,
                f"{name}: {time.isoformat()} is before {oldest}",
                value=time.isoformat(),
            )


def _times(record: BaseModel, names: Sequence[str]) -> Iterator[tuple[str, datetime]]:
    for name in names:
        time = getattr(record, name)
        if time is not None:
            yield name, time


def _raw(text: str, name: str) -> str:
    """One top-level value exactly as it was written, '' where it is absent or empty."""
    raw = _TOP_LEVEL.decode(text).get(name)
    found = "" if raw is None else bytes(raw).decode()
    return "" if found.strip("{} \t\r\n") == "" else found


def _merge_properties(text: str) -> str:
    """Properties with the unknown keys of the envelope, every value exactly as it was written.

    An unknown key that `properties` holds too is kept beside it as `<key>__envelope`.
    """
    top = {k: bytes(v).decode() for k, v in _TOP_LEVEL.decode(text).items()}
    inner = top.get("properties", "{}").strip()
    taken = set(json.loads(inner))
    merged = [inner[1:-1].strip()] if taken else []
    for name, raw in top.items():
        if name not in _EVENT_FIELDS:
            key = f"{name}__envelope" if name in taken else name
            merged.append(f"{json.dumps(key, ensure_ascii=False)}:{raw}")
    return "{" + ",".join(merged) + "}"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN_CHARS else shown[: SHOWN_CHARS - 3] + "..."
