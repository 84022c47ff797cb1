"""Shapes of a definition: a count of the marts, a formula over counts, a metric, a dimension.

A formula is data, not text, so that the same definition becomes SQL over hourly counts, SQL over
one row a message, a ratio inside one mart row, a number in Python, and words for the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Audience = Literal["all", "human", "machine"]
Scope = Literal["sent", "event"]
Unit = Literal["ratio", "count", "currency", "seconds"]
Grain = Literal["hourly", "message", "row"]

AUDIENCES: tuple[Audience, ...] = ("all", "human", "machine")
SCOPES: Mapping[Scope, str] = {"sent": "sent in range", "event": "event in range"}
SCOPE_TABLES: Mapping[Scope, str] = {
    "sent": "marts.fct_engagement_hourly",
    "event": "marts.fct_activity_hourly",
}


@dataclass(frozen=True, slots=True)
class Count:
    """A count column of the hourly marts.

    Attributes:
        name: the column, and the name in formulas.
        per_message: what one message adds, as SQL over a row of marts.fct_messages.
        human: the column that counts people only; '' when the count has no such variant.
        machine: the column that counts machines only.
        unique: distinct users over the whole selection; cannot be added up over rows.
        money: a Decimal amount.
        people_only: machines cannot cause it, so it is 0 for the machine audience.
    """

    name: str
    per_message: str
    human: str = ""
    machine: str = ""
    human_per_message: str = ""
    machine_per_message: str = ""
    unique: bool = False
    money: bool = False
    people_only: bool = False

    def column(self, audience: Audience) -> str:
        """The hourly column for an audience; the plain one where people and machines are one."""
        if self.people_only and audience == "machine":
            return "0"
        return {"all": "", "human": self.human, "machine": self.machine}[audience] or self.name

    def message_expression(self, audience: Audience) -> str:
        """What one row of fct_messages adds for an audience."""
        if self.people_only and audience == "machine":
            return "0"
        variant = {"all": "", "human": self.human_per_message, "machine": self.machine_per_message}
        return variant[audience] or self.per_message


@dataclass(frozen=True, slots=True)
class Term:
    """A count with a sign, taken from some channels only when `only` or `without` names them."""

    count: Count
    sign: Literal[1, -1] = 1
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def condition(self) -> str:
        """SQL condition on `channel`; '' when every channel counts."""
        if self.only:
            return "channel " + _among(self.only, "=", "in")
        return "channel " + _among(self.without, "!=", "not in") if self.without else ""

    def applies(self, channel: str) -> bool:
        """Whether rows of a channel count."""
        return (not self.only or channel in self.only) and channel not in self.without

    def sql(self, audience: Audience, grain: Grain) -> str:
        """The term without its sign, aggregated over hourly rows or messages, or of one row."""
        condition = self.condition()
        column = self.count.column(audience)
        if grain == "row":
            text = f"if({condition}, {column}, 0)" if condition else column
        elif grain == "message":
            text = self._over_messages(audience, condition)
        elif self.count.unique:
            state = f"{column}_state"
            text = (
                f"uniqExactMergeIf({state}, {condition})"
                if condition
                else f"uniqExactMerge({state})"
            )
        else:
            text = f"sumIf({column}, {condition})" if condition else f"sum({column})"
        return f"toFloat64({text})" if self.count.money else text

    def _over_messages(self, audience: Audience, condition: str) -> str:
        expression = self.count.message_expression(audience)
        if self.count.unique:
            conditions = f"({expression}) and {condition}" if condition else expression
            return f"uniqExactIf(user_id, {conditions})"
        return f"sumIf({expression}, {condition})" if condition else f"sum({expression})"

    def words(self) -> str:
        """The term for people."""
        if self.only:
            return f"{self.count.name} [{', '.join(self.only)}]"
        if self.without:
            return f"{self.count.name} [not {', '.join(self.without)}]"
        return self.count.name


@dataclass(frozen=True, slots=True)
class Formula:
    """A signed sum of terms."""

    terms: tuple[Term, ...]

    def sql(self, audience: Audience, grain: Grain) -> str:
        """The sum as SQL, in parentheses when it has several terms."""
        text = ""
        for term in self.terms:
            part = term.sql(audience, grain)
            sign = "-" if term.sign < 0 else "+"
            text += f" {sign} {part}" if text else (f"-{part}" if term.sign < 0 else part)
        return f"({text})" if len(self.terms) > 1 else text

    def value(self, counts: Mapping[str, float], channel: str, audience: Audience) -> float:
        """The sum in Python over one row of counts of one channel."""
        return sum(
            term.sign * counts[column]
            for term in self.terms
            if term.applies(channel) and (column := term.count.column(audience)) != "0"
        )

    def words(self) -> str:
        """The sum for people."""
        text = ""
        for term in self.terms:
            sign = "-" if term.sign < 0 else "+"
            text += f" {sign} {term.words()}" if text else term.words()
        return f"({text})" if len(self.terms) > 1 else text

    @property
    def counts(self) -> tuple[Count, ...]:
        """Counts it reads, each once."""
        return tuple(dict.fromkeys(term.count for term in self.terms))


@dataclass(frozen=True, slots=True)
class Metric:
    """One definition. A ratio is numerator / denominator, null where the denominator is 0.

    Attributes:
        window: how long after the send an engagement still counts.
        scopes: date scopes in which it has a meaning.
        aliases: the same figure's name in other products, where their definition agrees.
        version: raise it when the meaning changes; every answer shows it.
        lower_is_better: which way a change is good news.
    """

    name: str
    label: str
    description: str
    unit: Unit
    numerator: Formula
    denominator: Formula | None = None
    window: str = ""
    owner: str = "analytics"
    aliases: Mapping[str, str] = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ("sent", "event")
    version: int = 1
    lower_is_better: bool = False

    @property
    def additive(self) -> bool:
        """Whether values of disjoint groups add up to the value of the whole."""
        return self.denominator is None and not any(c.unique for c in self.numerator.counts)

    @property
    def audience_aware(self) -> bool:
        """Whether people and machines can be told apart in it."""
        return any(count.human for count in self.counts)

    @property
    def counts(self) -> tuple[Count, ...]:
        """Counts it reads, each once."""
        below = self.denominator.counts if self.denominator else ()
        return tuple(dict.fromkeys((*self.numerator.counts, *below)))

    @property
    def formula(self) -> str:
        """The formula for people."""
        over = f" / {self.denominator.words()}" if self.denominator else ""
        return self.numerator.words() + over

    def sql(self, audience: Audience = "all", grain: Grain = "hourly") -> str:
        """The metric as one SQL expression.

        Args:
            audience: all, or people or machines only; ignored where they are not told apart.
            grain: `hourly` aggregates rows of marts.fct_engagement_hourly or fct_activity_hourly,
                `message` rows of marts.fct_messages, `row` is the ratio inside one row that holds
                counts and `unique_recipients` (marts.fct_campaign_performance).
        """
        above = self.numerator.sql(audience, grain)
        if self.denominator is None:
            return above
        below = self.denominator.sql(audience, grain)
        if below.startswith("("):
            below = below[1:-1]
        return f"{above} / nullIf({below}, 0)"

    def value(
        self, counts: Mapping[str, float], *, channel: str = "", audience: Audience = "all"
    ) -> float | None:
        """The metric in Python over one row of counts of one channel; None for no denominator."""
        above = self.numerator.value(counts, channel, audience)
        if self.denominator is None:
            return above
        below = self.denominator.value(counts, channel, audience)
        return above / below if below else None


@dataclass(frozen=True, slots=True)
class Exposed:
    """A metric with its audience chosen, as Superset and the API name it."""

    name: str
    metric: Metric
    audience: Audience

    @property
    def label(self) -> str:
        """Label with the audience."""
        return self.metric.label + ("" if self.audience == "all" else f" ({self.audience})")

    def sql(self, grain: Grain = "hourly") -> str:
        """The expression of the chosen audience."""
        return self.metric.sql(self.audience, grain)


@dataclass(frozen=True, slots=True)
class Dimension:
    """A column of both hourly marts by which counts may be split and filtered."""

    name: str
    column: str
    label: str
    description: str


def total(*terms: Term | Count) -> Formula:
    """A formula from counts and terms, added up."""
    return Formula(tuple(t if isinstance(t, Term) else Term(t) for t in terms))


def _among(values: Sequence[str], one: str, several: str) -> str:
    quoted = [f"'{value}'" for value in values]
    return f"{one} {quoted[0]}" if len(quoted) == 1 else f"{several} ({', '.join(quoted)})"
