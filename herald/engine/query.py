"""The question: what may be asked, and the checks that name what is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from difflib import SequenceMatcher
from functools import cache
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from herald.engine.errors import InvalidQueryError, Problem
from herald.metrics.registry import DIMENSIONS, Audience, Exposed, Scope, exposed, resolve

TimeGrain = Literal["none", "hour", "day", "week"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Value = Annotated[str, StringConstraints(max_length=200)]
TIME = "time"
"""The column of an answer that holds the start of each hour, day or week."""


class Filter(BaseModel):
    """Keep (`in`) or drop (`not_in`) the rows whose dimension has one of the values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: Name
    op: Literal["in", "not_in"] = "in"
    values: tuple[Value, ...] = Field(min_length=1, max_length=200)

    @classmethod
    def parse(cls, text: str) -> Filter:
        """From `dimension:value,value`, or `!dimension:value` to drop; `country:` is no country.

        Raises:
            InvalidQueryError: it is not written like that.
        """
        name, colon, values = text.partition(":")
        dimension = name.removeprefix("!").strip()
        if not colon or not dimension:
            fix = "write it as `dimension:value,value`, such as channel:email"
            raise InvalidQueryError.of([Problem("filter", text, fix)])
        return cls(
            dimension=dimension,
            op="not_in" if name.startswith("!") else "in",
            values=tuple(values.split(",")),
        )


class Query(BaseModel):
    """One question.

    `metrics` are names of the registry, with `__human` or `__machine` where they have audiences;
    a name without a suffix follows `audience`. The range is [start, end); a time without an
    offset is local to `time_zone`. Under `compare=previous` every metric also comes as
    `<name>__previous`, over the range of the same length just before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant_id: Name = Field(description="Whose data. Nothing of another tenant is read.")
    metrics: tuple[Name, ...] = Field(min_length=1, max_length=50)
    dimensions: tuple[Name, ...] = Field((), max_length=8)
    filters: tuple[Filter, ...] = Field((), max_length=20)
    start: datetime = Field(description="First instant of the range.")
    end: datetime = Field(description="First instant after the range.")
    grain: TimeGrain = "none"
    time_zone: Name = Field("UTC", description="IANA name; cuts days and weeks.")
    scope: Scope = Field("sent", description="`sent` in range, or `event` in range.")
    audience: Audience = "all"
    order: tuple[Name, ...] = Field((), description="Output columns; a leading - is descending.")
    limit: int | None = Field(None, ge=1, description="Rows a page; the engine's default if none.")
    cursor: str | None = Field(None, max_length=1_000, description="`next_cursor` of a page.")
    compare: Literal["none", "previous"] = "none"

    def zone(self) -> ZoneInfo:
        """The time zone; the query must have been checked."""
        return ZoneInfo(self.time_zone)

    def range(self) -> tuple[datetime, datetime]:
        """Start and end in UTC."""
        return self._instant(self.start), self._instant(self.end)

    def resolved(self) -> list[Exposed]:
        """The metrics with their audience, named as the asker named them."""
        found = []
        for name in self.metrics:
            one = resolve(name)
            if one is None:
                raise InvalidQueryError.of([unknown_metric("metrics", name)])
            chosen = self.audience if one.audience == "all" else one.audience
            found.append(Exposed(name, one.metric, chosen))
        return found

    def columns(self) -> list[str]:
        """Names of the answer's columns, in order."""
        names = [*self.dimensions, *([TIME] if self.grain != "none" else []), *self.metrics]
        if self.compare == "previous":
            names += [f"{name}__previous" for name in self.metrics]
        return names

    def fingerprint(self) -> str:
        """Equal for questions with equal answers, whatever page they ask for."""
        text = self.model_dump_json(exclude={"cursor", "limit"})
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def check(self) -> None:
        """Raise InvalidQueryError that names every wrong part, with near matches."""
        problems = list(self._problems())
        if problems:
            raise InvalidQueryError.of(problems)

    def _instant(self, moment: datetime) -> datetime:
        local = moment if moment.tzinfo else moment.replace(tzinfo=self.zone())
        return local.astimezone(UTC)

    def _problems(self) -> Iterator[Problem]:
        for index, name in enumerate(self.metrics):
            if resolve(name) is None:
                yield unknown_metric(f"metrics.{index}", name)
        for index, name in enumerate(self.dimensions):
            if name not in DIMENSIONS:
                yield _unknown(f"dimensions.{index}", name, DIMENSIONS, "dimension")
        for index, item in enumerate(self.filters):
            if item.dimension not in DIMENSIONS:
                yield _unknown(f"filters.{index}.dimension", item.dimension, DIMENSIONS, "filter")
        for field, names in (("metrics", self.metrics), ("dimensions", self.dimensions)):
            for name in sorted({n for n in names if names.count(n) > 1}):
                yield Problem(field, name, "named twice; name it once")
        for index, key in enumerate(self.order):
            if key.removeprefix("-") not in self.columns():
                yield _unknown(f"order.{index}", key, self.columns(), "output column")
        if self.time_zone not in _time_zones():
            yield _unknown("time_zone", self.time_zone, _time_zones(), "time zone")
        else:
            yield from self._range_problems()

    def _range_problems(self) -> Iterator[Problem]:
        start, end = self.range()
        if start >= end:
            yield Problem("end", self.end.isoformat(), "must be after `start`")
        if self.scope == "event" and not self.on_whole_hours():
            yield Problem(
                "start" if start.minute or start.second or start.microsecond else "end",
                f"{self.start.isoformat()} .. {self.end.isoformat()} {self.time_zone}",
                "scope `event` is kept by whole UTC hours: start, end and the time zone's days "
                "must fall on them; scope `sent` has no such limit",
            )

    def on_whole_hours(self) -> bool:
        """Whether range and buckets can be cut from hourly rows without splitting one."""
        start, end = self.range()
        moments = [start, end]
        if self.grain in {"day", "week"}:
            days = min((end - start).days + 1, 3_660)
            moments += [
                datetime.combine(
                    (start + timedelta(days=n)).astimezone(self.zone()).date(),
                    datetime.min.time(),
                    self.zone(),
                ).astimezone(UTC)
                for n in range(days)
            ]
        elif self.grain == "hour":
            moments += [
                moment.astimezone(self.zone()).replace(minute=0).astimezone(UTC)
                for moment in (start, end)
            ]
        return not any(m.minute or m.second or m.microsecond for m in moments)


@cache
def _time_zones() -> frozenset[str]:
    # reads a directory tree: 4 ms, which was most of the cost of a cached answer
    return frozenset(available_timezones())


def near_matches(value: str, names: Iterable[str], *, most: int = 3) -> list[str]:
    """Names that somebody who wrote `value` may have meant, likeliest first.

    Half of a score is likeness of the whole, half of its words: by the whole alone `opn_rate` is
    nearer to `bounce_rate` than to `unique_open_rate`.
    """
    wanted = value.lower()
    words = [word for word in wanted.split("_") if word not in {"rate", ""}] or [wanted]

    def score(name: str) -> float:
        parts = name.lower().split("_")
        by_word = sum(max(_likeness(word, part) for part in parts) for word in words) / len(words)
        return (_likeness(wanted, name.lower()) + by_word) / 2

    scored = sorted(((score(name), name) for name in names), reverse=True)
    return [name for likeness, name in scored[:most] if likeness >= 0.55]


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def unknown_metric(field: str, name: str) -> Problem:
    """What to say of a metric that does not exist."""
    found = _unknown(field, name, [e.name for e in exposed()], "metric")
    more = "`herald metrics list` and GET /v1/metrics show them all"
    return Problem(field, name, f"{found.message} ({more})")


def _unknown(field: str, value: str, known: Iterable[str], kind: str) -> Problem:
    names = sorted(known)
    near = near_matches(value.removeprefix("-"), names)
    if near:
        hint = "did you mean " + " or ".join(repr(n) for n in near) + "?"
    else:
        hint = "known: " + ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return Problem(field, value, f"no such {kind}; {hint}")
