"""Event contract v1: the envelope of every notification event.

`Event` is the one definition. Arrow, Spark and ClickHouse schemas are derived from it in
`herald.contract.schemas`; the vectorised rules of the landing job read the same limits.
Semantics follow CloudEvents 1.0, flat for speed.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from herald.contract.columns import Column, low, text
from herald.contract.vocabulary import EVENT_TYPES, AbortReason, Channel

CONTRACT_VERSION = "1.0"
"""Version stamped on dead letters and on events that carry none."""

MAX_TEXT_CHARS = 4_096
"""Longest text field, in characters; `properties` and the whole event have limits of their own."""

MAX_EVENT_BYTES = 262_144
"""Longest event as JSON, in bytes; a longer one is dead-lettered as `too_large`."""

ID = Annotated[str, Field(max_length=256)]
Low = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]

_TIME = "DateTime64(3, 'UTC')"
_TIME_CODEC = "DoubleDelta, ZSTD(1)"


def time_column(group: Any, *, nullable: bool = False) -> Column:
    """A UTC time with milliseconds."""
    return Column(f"Nullable({_TIME})" if nullable else _TIME, "timestamp[ms]", group, _TIME_CODEC)


class Event(BaseModel):
    """One event as a producer sends it. Unknown keys end up in `properties`."""

    model_config = ConfigDict(extra="allow", frozen=True, str_strip_whitespace=False)

    # identity
    event_id: Annotated[UUID, Column("UUID", "string", "identity")] = Field(
        description="UUIDv7 made by the producer; a redelivered event keeps it."
    )
    source: Annotated[Low, low("identity")] = Field("", description="Producing service.")
    schema_version: Annotated[Low, low("identity")] = Field(
        CONTRACT_VERSION, description="Contract version the producer wrote against."
    )
    tenant_id: Annotated[ID, low("identity")] = Field(
        min_length=1, description="Customer of the platform that owns the event."
    )
    event_type: Annotated[Low, low("identity")] = Field(description="`<channel>.<action>`.")
    occurred_at: Annotated[AwareDatetime, time_column("identity")] = Field(
        description="When it happened, UTC, milliseconds."
    )
    ingested_at: Annotated[AwareDatetime | None, time_column("identity", nullable=True)] = Field(
        None, description="When the producing service accepted it, UTC."
    )
    timezone: Annotated[Low, low("identity")] = Field("", description="User's IANA time zone.")

    # who
    user_id: Annotated[ID, text("who")] = Field("", description="Pseudonym (keyed HMAC).")
    anonymous_id: Annotated[ID, text("who")] = Field("", description="Identifier before sign-in.")
    device_id: Annotated[ID, text("who")] = Field("", description="Device pseudonym.")
    session_id: Annotated[ID, text("who")] = Field("", description="App or web session.")

    # what was sent
    message_id: Annotated[ID, text("message")] = Field(
        "", description="One dispatch of one message to one user."
    )
    send_id: Annotated[ID, text("message")] = Field(
        "", description="One launch of a campaign, shared by its messages."
    )
    campaign_id: Annotated[ID, low("message")] = Field("", description="Campaign.")
    campaign_name: Annotated[Low, low("message")] = Field("", description="Name at send time.")
    variant_id: Annotated[ID, low("message")] = Field("", description="Variant of the campaign.")
    template_id: Annotated[ID, low("message")] = Field("", description="Template rendered.")
    subject: Annotated[Text, low("message")] = Field("", description="Subject line or title.")
    journey_id: Annotated[ID, low("message")] = Field("", description="Journey, if any.")
    journey_step_id: Annotated[ID, low("message")] = Field("", description="Step of the journey.")
    category: Annotated[Low, low("message")] = Field(
        "", description="transactional, promotional, ..."
    )

    # experiment
    experiment_id: Annotated[ID, low("experiment")] = Field("", description="Experiment.")
    arm: Annotated[ID, low("experiment")] = Field("", description="Arm the user was assigned to.")
    is_holdout: Annotated[bool, Column("Bool", "bool", "experiment")] = Field(
        False, description="User is held out and receives nothing."
    )

    # where
    channel: Annotated[Channel | None, low("where")] = Field(
        None, description="Prefix of `event_type`; may be left out, must agree when given."
    )
    provider: Annotated[Low, low("where")] = Field("", description="Delivering provider.")
    ip_pool: Annotated[Low, low("where")] = Field("", description="Sending address pool.")
    platform: Annotated[Low, low("where")] = Field("", description="ios, android, web, ...")
    os_version: Annotated[Low, low("where")] = Field("", description="Operating system version.")
    app_version: Annotated[Low, low("where")] = Field("", description="App version.")
    device_model: Annotated[Low, low("where")] = Field("", description="Device model.")
    device_class: Annotated[Low, low("where")] = Field("", description="phone, tablet, desktop.")
    browser: Annotated[Low, low("where")] = Field("", description="Browser.")
    mailbox_provider: Annotated[Low, low("where")] = Field("", description="gmail, icloud, ...")
    country: Annotated[str, Field(pattern=r"^([A-Z]{2})?$"), low("where")] = Field(
        "", description="ISO 3166-1 alpha-2, upper case."
    )
    region: Annotated[Low, low("where")] = Field("", description="ISO 3166-2 subdivision.")
    city: Annotated[Low, low("where")] = Field("", description="City.")
    locale: Annotated[Low, low("where")] = Field("", description="BCP 47 language tag.")

    # engagement
    link_id: Annotated[ID, low("engagement")] = Field("", description="Link clicked.")
    link_url: Annotated[Text, text("engagement")] = Field("", description="Target of the link.")
    button_id: Annotated[ID, low("engagement")] = Field("", description="Button tapped.")
    user_agent: Annotated[Text, low("engagement")] = Field("", description="HTTP user agent.")
    machine_open: Annotated[bool, Column("Bool", "bool", "engagement")] = Field(
        False, description="Open by Apple MPP or an image proxy."
    )
    is_suspected_bot: Annotated[bool, Column("Bool", "bool", "engagement")] = Field(
        False, description="Producer's own bot verdict; the platform adds its own in staging."
    )
    suspected_bot_reasons: Annotated[
        tuple[Low, ...],
        Column("Array(LowCardinality(String))", "list<string>", "engagement"),
    ] = Field((), description="Why, from the closed list `BotReason` or a producer's own words.")

    # failure
    failure_class: Annotated[Low, low("failure")] = Field(
        "", description="hard, soft, block, technical, ..."
    )
    failure_reason: Annotated[Text, low("failure")] = Field(
        "", description="For `aborted`: one of `AbortReason`; else the provider's words."
    )
    provider_code: Annotated[Low, low("failure")] = Field("", description="SMTP, FCM, ... code.")
    attempt: Annotated[
        int, Field(ge=0, le=255), Column("UInt8", "uint8", "failure", "T64, ZSTD(1)")
    ] = Field(0, description="Attempt number, from 1; 0 where it does not apply.")

    # value
    conversion_name: Annotated[Low, low("value")] = Field("", description="Conversion event.")
    revenue: Annotated[
        Decimal | None,
        Field(max_digits=18, decimal_places=4),
        Column("Nullable(Decimal(18, 4))", "decimal", "value"),
    ] = Field(None, description="Value of a conversion or purchase, in `currency`.")
    currency: Annotated[str, Field(pattern=r"^([A-Z]{3})?$"), low("value")] = Field(
        "", description="ISO 4217."
    )
    cost: Annotated[
        Decimal | None,
        Field(max_digits=18, decimal_places=4, ge=0),
        Column("Nullable(Decimal(18, 4))", "decimal", "value"),
    ] = Field(None, description="What this attempt cost, in `currency`.")
    properties: Annotated[dict[str, Any], Column("String", "string", "value", "ZSTD(3)")] = Field(
        default_factory=dict,
        description="Everything else, as a JSON object; unknown keys of the envelope join it.",
    )

    @model_validator(mode="after")
    def _type_channel_reason(self) -> Event:
        if self.event_type not in EVENT_TYPES:
            raise ValueError(f"event_type: {self.event_type!r} is not `<channel>.<action>` known")
        prefix = self.event_type.partition(".")[0]
        if self.channel is not None and self.channel.value != prefix:
            raise ValueError(f"channel: {self.channel.value!r} disagrees with {self.event_type!r}")
        if self.event_type.endswith(".aborted") and self.failure_reason not in set(AbortReason):
            raise ValueError(f"failure_reason: {self.failure_reason!r} is no abort reason")
        return self


class Landed(BaseModel):
    """What the landing job adds to every row. Producers may not send these names."""

    action: Annotated[str, low("landing")] = Field(description="Suffix of `event_type`.")
    topic: Annotated[str, low("landing")] = Field(alias="_topic", description="Kafka topic.")
    partition: Annotated[int, Column("UInt16", "uint16", "landing", "T64, ZSTD(1)")] = Field(
        alias="_partition", description="Kafka partition."
    )
    offset: Annotated[int, Column("UInt64", "uint64", "landing", "Delta, ZSTD(1)")] = Field(
        alias="_offset", description="Kafka offset; (topic, partition, offset) is unique."
    )
    landed_at: Annotated[datetime, time_column("landing")] = Field(
        description="When the batch was written, UTC."
    )
