"""Contract of the reference topics: what campaign, template, journey and user services publish.

Each record is the whole state of one entity, keyed by its id on a compacted topic; history is
kept by landing every version.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from herald.contract.columns import Column, low, text
from herald.contract.events import ID, Low, Text, time_column

_JSON = Column("String", "string", "message", "ZSTD(3)")


class Reference(BaseModel):
    """What every reference record carries."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    table: ClassVar[str]
    key: ClassVar[str]

    tenant_id: Annotated[ID, low("identity")] = Field(min_length=1, description="Owner.")
    updated_at: Annotated[AwareDatetime, time_column("identity")] = Field(
        description="When this version became true, UTC."
    )
    is_deleted: Annotated[bool, Column("Bool", "bool", "identity")] = Field(
        False, description="The entity is gone; its history stays."
    )


class Campaign(Reference):
    """A campaign, as its service knows it."""

    table: ClassVar[str] = "campaigns"
    key: ClassVar[str] = "campaign_id"

    campaign_id: Annotated[ID, text("message")] = Field(min_length=1, description="Id.")
    name: Annotated[Low, text("message")] = Field("", description="Name.")
    channel: Annotated[Low, low("where")] = Field("", description="Channel it sends on.")
    category: Annotated[Low, low("message")] = Field("", description="transactional, promotional.")
    status: Annotated[
        Literal["draft", "scheduled", "active", "paused", "completed", "archived"], low("message")
    ] = Field("active", description="Life-cycle state.")
    objective: Annotated[Low, low("message")] = Field("", description="What it is for.")
    owner: Annotated[Low, low("message")] = Field("", description="Team that owns it.")
    template_id: Annotated[ID, low("message")] = Field("", description="Main template.")
    journey_id: Annotated[ID, low("message")] = Field("", description="Journey it belongs to.")
    primary_conversion: Annotated[Low, low("value")] = Field("", description="conversion_name.")
    conversion_window_hours: Annotated[
        int, Field(ge=0, le=65_535), Column("UInt16", "uint16", "value", "T64, ZSTD(1)")
    ] = Field(168, description="Hours after the send in which a conversion counts.")
    holdout_share: Annotated[float, Field(ge=0, le=1), Column("Float64", "double", "value")] = (
        Field(0.0, description="Share of the audience held out, 0 to 1.")
    )
    variants: Annotated[list[dict[str, Any]], _JSON] = Field(
        default_factory=list, description="JSON list of {variant_id, name, share, template_id}."
    )
    starts_at: Annotated[AwareDatetime | None, time_column("message", nullable=True)] = Field(
        None, description="First send, UTC."
    )
    ends_at: Annotated[AwareDatetime | None, time_column("message", nullable=True)] = Field(
        None, description="Last send, UTC."
    )
    fixed_cost: Annotated[float, Field(ge=0), Column("Decimal(18, 4)", "decimal", "value")] = Field(
        0.0, description="Spend beside the cost of single messages, in `currency`."
    )
    currency: Annotated[Low, low("value")] = Field("USD", description="ISO 4217.")


class Template(Reference):
    """A message template."""

    table: ClassVar[str] = "templates"
    key: ClassVar[str] = "template_id"

    template_id: Annotated[ID, text("message")] = Field(min_length=1, description="Id.")
    name: Annotated[Low, text("message")] = Field("", description="Name.")
    channel: Annotated[Low, low("where")] = Field("", description="Channel.")
    category: Annotated[Low, low("message")] = Field("", description="transactional, promotional.")
    locale: Annotated[Low, low("where")] = Field("en", description="BCP 47 language tag.")
    subject: Annotated[Text, text("message")] = Field("", description="Subject line or title.")
    body: Annotated[Text, text("message")] = Field("", description="Body text.")
    call_to_action: Annotated[Low, text("message")] = Field("", description="Button text.")
    version: Annotated[int, Field(ge=0), Column("UInt32", "uint32", "message", "T64, ZSTD(1)")] = (
        Field(1, description="Version number.")
    )


class Journey(Reference):
    """A journey of several steps."""

    table: ClassVar[str] = "journeys"
    key: ClassVar[str] = "journey_id"

    journey_id: Annotated[ID, text("message")] = Field(min_length=1, description="Id.")
    name: Annotated[Low, text("message")] = Field("", description="Name.")
    status: Annotated[Low, low("message")] = Field("active", description="Life-cycle state.")
    steps: Annotated[list[dict[str, Any]], _JSON] = Field(
        default_factory=list, description="JSON list of {journey_step_id, channel, delay_hours}."
    )


class User(Reference):
    """A user's attributes, under a pseudonym; no contact point and no name."""

    table: ClassVar[str] = "users"
    key: ClassVar[str] = "user_id"

    user_id: Annotated[ID, text("who")] = Field(min_length=1, description="Pseudonym.")
    created_at: Annotated[AwareDatetime | None, time_column("identity", nullable=True)] = Field(
        None, description="Sign-up, UTC."
    )
    timezone: Annotated[Low, low("where")] = Field("", description="IANA time zone.")
    country: Annotated[str, Field(pattern=r"^([A-Z]{2})?$"), low("where")] = Field(
        "", description="ISO 3166-1 alpha-2."
    )
    locale: Annotated[Low, low("where")] = Field("", description="BCP 47 language tag.")
    platform: Annotated[Low, low("where")] = Field("", description="Main platform.")
    device_class: Annotated[Low, low("where")] = Field("", description="Main device class.")
    mailbox_provider: Annotated[Low, low("where")] = Field("", description="Mailbox provider.")
    acquisition_channel: Annotated[Low, low("where")] = Field("", description="How they came.")
    is_email_subscribed: Annotated[bool, Column("Bool", "bool", "who")] = Field(
        False, description="May receive promotional e-mail."
    )
    is_push_subscribed: Annotated[bool, Column("Bool", "bool", "who")] = Field(
        False, description="Has a valid push token."
    )
    is_sms_subscribed: Annotated[bool, Column("Bool", "bool", "who")] = Field(
        False, description="May receive SMS."
    )


REFERENCES: tuple[type[Reference], ...] = (Campaign, Template, Journey, User)
"""Every reference entity, in the order of its topics."""
