"""The closed lists of the contract: channels, actions, abort reasons, bot reasons."""

from __future__ import annotations

from enum import StrEnum


class Channel(StrEnum):
    """How a message reaches a user. APP marks events that belong to no message."""

    EMAIL = "email"
    PUSH = "push"
    WEB_PUSH = "web_push"
    SMS = "sms"
    IN_APP = "in_app"
    CONTENT_CARD = "content_card"
    WHATSAPP = "whatsapp"
    WEBHOOK = "webhook"
    APP = "app"


class Action(StrEnum):
    """What happened. `influenced_opened` is computed by the platform, never produced."""

    REQUESTED = "requested"
    TARGETED = "targeted"
    ELIGIBLE = "eligible"
    ENQUEUED = "enqueued"
    ATTEMPTED = "attempted"
    SENT = "sent"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    SOFT_BOUNCED = "soft_bounced"
    BOUNCED = "bounced"
    FAILED = "failed"
    ABORTED = "aborted"
    RETRIED = "retried"
    OPENED = "opened"
    INFLUENCED_OPENED = "influenced_opened"
    CLICKED = "clicked"
    DISMISSED = "dismissed"
    IMPRESSED = "impressed"
    READ = "read"
    REPLIED = "replied"
    UNSUBSCRIBED = "unsubscribed"
    MARKED_AS_SPAM = "marked_as_spam"
    CONVERTED = "converted"
    PURCHASED = "purchased"
    SESSION_STARTED = "session_started"
    CUSTOM = "custom"
    SUBSCRIPTION_CHANGED = "subscription_changed"
    TOKEN_CHANGED = "token_changed"
    UNINSTALLED = "uninstalled"
    IDENTITY_MERGED = "identity_merged"
    ENROLLED_IN_HOLDOUT = "enrolled_in_holdout"
    CONSENT_CHANGED = "consent_changed"
    DELETION_REQUESTED = "deletion_requested"


APP_ACTIONS = frozenset(
    {
        Action.PURCHASED,
        Action.SESSION_STARTED,
        Action.CUSTOM,
        Action.SUBSCRIPTION_CHANGED,
        Action.TOKEN_CHANGED,
        Action.UNINSTALLED,
        Action.IDENTITY_MERGED,
        Action.ENROLLED_IN_HOLDOUT,
        Action.CONSENT_CHANGED,
        Action.DELETION_REQUESTED,
        Action.CONVERTED,
    }
)
"""Actions that need no message: produced as `app.<action>`."""

EVENT_TYPES: frozenset[str] = frozenset(
    f"{channel}.{action}"
    for channel in Channel
    for action in Action
    if channel is not Channel.APP or action in APP_ACTIONS
)
"""Every `<channel>.<action>` that the contract accepts."""


class AbortReason(StrEnum):
    """Why a message was never sent."""

    FREQUENCY_CAPPED = "frequency_capped"
    QUIET_HOURS = "quiet_hours"
    DUPLICATE_IDENTIFIER = "duplicate_identifier"
    INELIGIBLE = "ineligible"
    UNSUBSCRIBED = "unsubscribed"
    INVALID_CREDENTIALS = "invalid_credentials"
    RENDER_ERROR = "render_error"
    EXPIRED = "expired"
    RATE_LIMITED = "rate_limited"
    PROVIDER_TIMEOUT = "provider_timeout"
    HOLDOUT = "holdout"


class BotReason(StrEnum):
    """Why an engagement is suspected to be a machine's. CERTAIN ones set the flag alone."""

    USER_AGENT = "user_agent"
    ADDRESS_RANGE = "address_range"
    HEAD_REQUEST = "head_request"
    TOO_FAST = "too_fast"
    EVERY_LINK = "every_link"
    HONEYPOT = "honeypot"


CERTAIN_BOT_REASONS = frozenset({BotReason.HONEYPOT, BotReason.USER_AGENT})
"""One of these flags an engagement; of the others it takes two."""
