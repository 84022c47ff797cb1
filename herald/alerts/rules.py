"""Rules as data: what is watched, when it is wrong, who is told. YAML, checked strictly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from herald.settings import ROOT

RULES = Path(__file__).parent / "rules"
"""The rules of the project; a deployment may name another folder in its settings."""

SEVERITIES = ("info", "warning", "critical")
DIMENSIONS = ("campaign_id", "variant_id", "channel", "country", "platform", "provider", "audience")
COUNTS = (
    "targeted", "attempted", "sent", "delivered", "deferred", "bounced", "soft_bounced", "failed",
    "aborted", "opened", "clicked", "impressed", "converted", "unsubscribed", "complained",
    "events",
)  # fmt: skip
"""Columns of the rollups `live.events_second`, `live.events_minute`, `live.events_hour`."""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+)([smhd])")


class RuleError(Exception):
    """Rules that cannot be used; the message names file, rule, field, value and fix."""


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("write a whole number and s, m, h or d, such as 90s, 15m or 24h")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Dimension = Literal[
    "campaign_id", "variant_id", "channel", "country", "platform", "provider", "audience"
]
Count = Literal[
    "targeted", "attempted", "sent", "delivered", "deferred", "bounced", "soft_bounced", "failed",
    "aborted", "opened", "clicked", "impressed", "converted", "unsubscribed", "complained",
    "events",
]  # fmt: skip
Share = Annotated[float, Field(gt=0, lt=1)]


class BaseRule(BaseModel):
    """What every rule has. An alert is about one tenant and one combination of `group_by`.

    window: how far back a judgement looks. every: how often it is made. lasting: how long it has
    to be wrong before an alert opens. cooldown: how long it has to be right before it resolves.
    min_volume: with fewer events in the window nothing is judged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{2,63}$")
    owner: str = Field(min_length=1, max_length=100)
    severity: Literal["info", "warning", "critical"]
    runbook: str = Field(pattern=r"^docs/runbooks/[a-z0-9_-]+\.md$")
    description: str = ""
    window: Duration
    every: Duration = timedelta(minutes=1)
    lasting: Duration = Field(timedelta(0), alias="for")
    cooldown: Duration = timedelta(minutes=10)
    min_volume: int = Field(ge=1)
    group_by: tuple[Dimension, ...] = ()
    where: dict[Dimension, tuple[str, ...]] = {}
    enabled: bool = True

    @model_validator(mode="after")
    def _fits(self) -> BaseRule:
        if self.every.total_seconds() < 1:
            raise ValueError("every: judge at most once a second, such as every: 5s")
        if self.window.total_seconds() % self.every.total_seconds():
            raise ValueError(
                f"window: {self.window} is no multiple of every: {self.every}; make it one"
            )
        if self.every.total_seconds() % 60 and self.window > timedelta(hours=1):
            raise ValueError("window: above 1h the counts are by minute; set every: 1m or more")
        return self

    @property
    def window_ms(self) -> int:
        """Length of the window, ms."""
        return _ms(self.window)

    @property
    def every_ms(self) -> int:
        """Time between two judgements, ms."""
        return _ms(self.every)

    @property
    def step_ms(self) -> int:
        """Grain of the counts it reads, ms: a minute, or a second for quick rules."""
        return 60_000 if self.every_ms % 60_000 == 0 else 1_000


class DeliveryGap(BaseRule):
    """Sent, but neither delivered nor refused. threshold: share of the sent, above the usual."""

    kind: Literal["delivery_gap"]
    threshold: Share
    certainty: float = Field(4.0, ge=1, le=10)


class BounceSpike(BaseRule):
    """Bounces of what was sent. Wrong above threshold and above times_baseline times the usual."""

    kind: Literal["bounce_spike"]
    threshold: Share
    times_baseline: float = Field(2.5, ge=1)
    certainty: float = Field(4.0, ge=1, le=10)


class ComplaintSpike(BaseRule):
    """Complaints of what was delivered. Mailbox providers punish 0.3%."""

    kind: Literal["complaint_spike"]
    threshold: Share = 0.003
    times_baseline: float = Field(1.0, ge=1)
    certainty: float = Field(3.0, ge=1, le=10)


class ProviderSilence(BaseRule):
    """Fewer events than threshold times the usual. min_volume: events usual in the window."""

    kind: Literal["provider_silence"]
    threshold: float = Field(0.02, ge=0, lt=1)
    metric: tuple[Count, ...] = ("events",)


class BotStorm(BaseRule):
    """Clicks in the window, per message that reached somebody within `reach`."""

    kind: Literal["bot_storm"]
    threshold: float = Field(gt=0)
    reach: Duration = timedelta(hours=24)


class OverMessaging(BaseRule):
    """Users with threshold sends in the window and no open. min_volume: users it takes."""

    kind: Literal["over_messaging"]
    threshold: int = Field(ge=2)
    hop: Duration = timedelta(hours=6)
    recent: Duration = Field(
        timedelta(hours=1), description="How long after the last send a user counts."
    )

    @model_validator(mode="after")
    def _hops(self) -> OverMessaging:
        if self.window.total_seconds() % self.hop.total_seconds():
            raise ValueError(f"hop: {self.hop} does not divide window: {self.window}")
        if self.group_by or self.where:
            raise ValueError("group_by: users are counted a tenant; leave group_by and where out")
        return self


class FunnelStall(BaseRule):
    """The step from_stage to to_stage falls under threshold times the usual."""

    kind: Literal["funnel_stall"]
    from_stage: Count
    to_stage: Count
    threshold: Share
    certainty: float = Field(4.0, ge=1, le=10)


class VolumeAnomaly(BaseRule):
    """A count against the same hour of past weeks. threshold: robust standard deviations."""

    kind: Literal["volume_anomaly"]
    metric: tuple[Count, ...] = Field(min_length=1)
    threshold: float = Field(gt=0)
    direction: Literal["both", "above", "below"] = "both"
    min_change: float = Field(0.5, gt=0, description="Smallest relative change that matters.")


class RateAnomaly(BaseRule):
    """A ratio against the same hour of past weeks. threshold: robust standard deviations."""

    kind: Literal["rate_anomaly"]
    numerator: tuple[Count, ...] = Field(min_length=1)
    denominator: tuple[Count, ...] = Field(min_length=1)
    threshold: float = Field(gt=0)
    direction: Literal["both", "above", "below"] = "both"
    min_change: float = Field(0.5, gt=0, description="Smallest relative change that matters.")


class Canary(BaseRule):
    """Messages to ourselves that show that sending works. threshold: seconds to delivery.

    min_volume: canaries of the window that may be late or lost before it alerts.
    """

    kind: Literal["canary"]
    threshold: float = Field(gt=0)
    campaigns: tuple[str, ...] = Field(("canary",), min_length=1)


Rule = Annotated[
    DeliveryGap | BounceSpike | ComplaintSpike | ProviderSilence | BotStorm | OverMessaging
    | FunnelStall | VolumeAnomaly | RateAnomaly | Canary,
    Field(discriminator="kind"),
]  # fmt: skip
_ADAPTER: TypeAdapter[Rule] = TypeAdapter(Rule)


def parse_rule(fields: dict[str, Any], origin: str = "rule") -> Rule:
    """One rule from plain values.

    Raises:
        RuleError: a field is missing, unknown or wrong.
    """
    label = f"{origin}: {fields.get('name', '(no name)')}"
    try:
        return _ADAPTER.validate_python(fields)
    except ValidationError as error:
        problems = "\n  ".join(_problem(e) for e in error.errors())
        raise RuleError(f"{label}\n  {problems}") from None


def load_rules(folder: Path | None = None) -> list[Rule]:
    """Every enabled rule of the YAML files of a folder, in order of file and place.

    Raises:
        RuleError: a file or a rule cannot be used; nothing is skipped silently.
    """
    folder = folder or RULES
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise RuleError(f"{folder}: no .yaml file with rules; see docs/how-to/add-an-alert.md")
    rules = [rule for file in files for rule in _read(file)]
    names = [rule.name for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RuleError(f"name: {', '.join(twice)} is used twice; rename one of them")
    return [rule for rule in rules if rule.enabled]


def _read(file: Path) -> list[Rule]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RuleError(f"{file.name}: no YAML: {' '.join(str(error).split())}") from None
    listed = found.get("rules") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise RuleError(f"{file.name}: rules: write a list of rules under `rules:`")
    rules = [parse_rule(item, file.name) for item in listed]
    for rule in rules:
        if not (ROOT / rule.runbook).is_file():
            raise RuleError(
                f"{file.name}: {rule.name}\n  runbook={rule.runbook!r}: no such file; write it"
            )
    return rules


def evaluation_step_ms(rules: Sequence[Rule]) -> int:
    """The grid on which every rule's judgements lie, ms."""
    steps = [rule.every_ms for rule in rules] or [60_000]
    shortest = min(steps)
    return shortest if all(step % shortest == 0 for step in steps) else 1_000


def _problem(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"][1:]) or "kind"
    kind = error["type"]
    if kind == "missing":
        return f"{path}: missing; add it"
    if kind == "extra_forbidden":
        return f"{path}={error['input']!r}: no such field of this kind; remove it or mend its name"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        kinds = ", ".join(sorted(KINDS))
        return f"kind={_shown(error['input'])!r}: no such kind; there are {kinds}"
    return f"{path}={error['input']!r}: {error['msg'].removeprefix('Value error, ')}"


def _shown(given: object) -> object:
    return given.get("kind") if isinstance(given, dict) else given


def _ms(length: timedelta) -> int:
    return int(length.total_seconds() * 1_000)


KINDS: dict[str, type[BaseRule]] = {
    "delivery_gap": DeliveryGap,
    "bounce_spike": BounceSpike,
    "complaint_spike": ComplaintSpike,
    "provider_silence": ProviderSilence,
    "bot_storm": BotStorm,
    "over_messaging": OverMessaging,
    "funnel_stall": FunnelStall,
    "volume_anomaly": VolumeAnomaly,
    "rate_anomaly": RateAnomaly,
    "canary": Canary,
}
"""Every kind of rule."""
