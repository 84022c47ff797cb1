"""Every metric of Herald, defined once. `docs/reference/metrics.md` is generated from it.

Add one: docs/how-to/add-a-metric.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from herald.metrics import counts as c
from herald.metrics.model import (
    AUDIENCES,
    SCOPE_TABLES,
    SCOPES,
    Audience,
    Count,
    Dimension,
    Exposed,
    Metric,
    Scope,
    Term,
    total,
)

__all__ = [
    "AUDIENCES",
    "DIMENSIONS",
    "METRICS",
    "SCOPES",
    "SCOPE_TABLES",
    "Audience",
    "Dimension",
    "Exposed",
    "Metric",
    "Scope",
    "definition_version",
    "exposed",
    "resolve",
]

SEVEN_DAYS = "7 days after the send"
CAMPAIGN_WINDOW = "the campaign's conversion window, from the send"
PUSH = ("push", "web_push")
SHOWN_IN_APP = ("in_app", "content_card")
"""Nothing reports a delivery there: a message is shown or it is not."""


def _count(
    count: Count,
    label: str,
    description: str,
    *,
    window: str = "",
    owner: str = "analytics",
    lower_is_better: bool = False,
    **aliases: str,
) -> Metric:
    return Metric(
        name=count.name,
        label=label,
        description=description,
        unit="currency" if count.money else "count",
        numerator=total(count),
        window=window,
        owner=owner,
        aliases=aliases,
        lower_is_better=lower_is_better,
    )


_COUNTS = (
    _count(c.TARGETED, "Targeted", "Messages meant for a user, held-out users included."),
    _count(c.ELIGIBLE, "Eligible", "Messages whose user may be reached on the channel."),
    _count(c.ATTEMPTED, "Attempted", "Messages handed to a provider at least once."),
    _count(
        c.SENDS,
        "Sends",
        "Messages a provider accepted.",
        braze="Sends",
        onesignal="Sent",
        customerio="Sent",
    ),
    _count(
        c.DELIVERIES,
        "Deliveries",
        "Messages a provider reported as delivered.",
        owner="deliverability",
        braze="Deliveries",
        onesignal="Confirmed delivery",
        customerio="Delivered",
    ),
    _count(
        c.BOUNCES,
        "Bounces",
        "Messages refused for good (hard bounces).",
        owner="deliverability",
        lower_is_better=True,
        braze="Bounces",
        onesignal="Bounced",
        customerio="Bounced",
    ),
    _count(
        c.SOFT_BOUNCES,
        "Soft bounces",
        "Messages refused for now at least once.",
        owner="deliverability",
        lower_is_better=True,
        braze="Soft Bounces",
    ),
    _count(
        c.FAILURES,
        "Failures",
        "Messages a provider failed to carry.",
        owner="deliverability",
        lower_is_better=True,
        onesignal="Failed",
        customerio="Failed",
    ),
    _count(
        c.ABORTS,
        "Aborts",
        "Messages stopped by a rule of ours before the send, holdouts included.",
        lower_is_better=True,
        braze="Aborts",
    ),
    _count(
        c.UNIQUE_OPENS,
        "Unique opens",
        "Messages opened at least once.",
        window=SEVEN_DAYS,
        braze="Unique Opens",
        onesignal="Unique opens",
        customerio="Opened",
    ),
    _count(
        c.OPENS, "Opens", "Opens, repeats included.", window=SEVEN_DAYS, braze="Total Opens (email)"
    ),
    _count(
        c.INFLUENCED_OPENS,
        "Influenced opens",
        "Push messages not tapped whose user opened the app soon after: within 30 minutes, or "
        "under half of the user's mean gap between sessions.",
        braze="Influenced Opens",
        onesignal="Influenced opens",
    ),
    _count(
        c.UNIQUE_CLICKS,
        "Unique clicks",
        "Messages clicked at least once.",
        window=SEVEN_DAYS,
        braze="Unique Clicks",
        onesignal="Unique clicks",
        customerio="Clicked",
    ),
    _count(
        c.CLICKS, "Clicks", "Clicks, repeats included.", window=SEVEN_DAYS, braze="Total Clicks"
    ),
    _count(
        c.UNIQUE_IMPRESSIONS,
        "Unique impressions",
        "In-app messages and content cards seen at least once.",
        braze="Unique Impressions",
        onesignal="Displayed",
    ),
    _count(
        c.UNSUBSCRIBES,
        "Unsubscribes",
        "Messages after which the user unsubscribed. One that a robot clicked still counts: the "
        "user is unsubscribed.",
        lower_is_better=True,
        braze="Unsubscribes",
        onesignal="Unsubscribed",
        customerio="Unsubscribed",
    ),
    _count(
        c.COMPLAINTS,
        "Spam complaints",
        "Messages marked as spam.",
        owner="deliverability",
        lower_is_better=True,
        braze="Spam Reports",
        onesignal="Spam reports",
        customerio="Spammed",
    ),
    _count(c.DISMISSALS, "Dismissals", "Messages dismissed.", braze="Dismissals"),
    _count(c.READS, "Reads", "Messages read (read receipts).", braze="Reads (WhatsApp)"),
    _count(c.REPLIES, "Replies", "Messages answered.", braze="Inbound Received"),
    _count(
        c.CONVERSIONS,
        "Conversions",
        "Messages followed by their campaign's primary conversion.",
        window=CAMPAIGN_WINDOW,
        braze="Primary Conversions (A)",
        customerio="Converted",
    ),
    _count(
        c.TOTAL_CONVERSIONS,
        "Total conversions",
        "Conversion events attributed to a message, repeats and secondary ones included.",
        braze="Total Conversions",
    ),
    _count(
        c.REVENUE,
        "Revenue",
        "Revenue of conversions attributed to a message, in the tenant's currency.",
        owner="finance",
        braze="Total Revenue",
    ),
    _count(
        c.COST,
        "Cost",
        "What sending cost, in the tenant's currency.",
        owner="finance",
        lower_is_better=True,
    ),
    _count(
        c.UNIQUE_RECIPIENTS,
        "Unique recipients",
        "Distinct users who were sent or saw a message. Exact; does not add up over groups.",
        braze="Unique Recipients",
    ),
)

_RATIOS = (
    Metric(
        "delivery_rate",
        "Delivery rate",
        "E-mail: sends without bounces over sends. Other channels: deliveries over sends. In-app "
        "messages and content cards count in neither: nothing reports their delivery.",
        "ratio",
        numerator=total(
            Term(c.SENDS, only=("email",)),
            Term(c.BOUNCES, -1, only=("email",)),
            Term(c.DELIVERIES, without=("email", *SHOWN_IN_APP)),
        ),
        denominator=total(Term(c.SENDS, without=SHOWN_IN_APP)),
        owner="deliverability",
        aliases={"braze": "Deliveries %", "onesignal": "Delivery rate"},
    ),
    Metric(
        "bounce_rate",
        "Bounce rate",
        "Hard bounces over sends.",
        "ratio",
        numerator=total(c.BOUNCES),
        denominator=total(c.SENDS),
        owner="deliverability",
        aliases={"braze": "Bounces %", "onesignal": "Bounce rate"},
        lower_is_better=True,
    ),
    Metric(
        "spam_rate",
        "Spam rate",
        "Spam complaints over sends.",
        "ratio",
        numerator=total(c.COMPLAINTS),
        denominator=total(c.SENDS),
        owner="deliverability",
        aliases={"braze": "Spam Reports %", "onesignal": "Spam rate"},
        lower_is_better=True,
    ),
    Metric(
        "unsubscribe_rate",
        "Unsubscribe rate",
        "Unsubscribes over deliveries.",
        "ratio",
        numerator=total(c.UNSUBSCRIBES),
        denominator=total(c.DELIVERIES),
        aliases={"braze": "Unsubscribes %"},
        lower_is_better=True,
    ),
    Metric(
        "unique_open_rate",
        "Unique open rate",
        "Messages opened over deliveries.",
        "ratio",
        numerator=total(c.UNIQUE_OPENS),
        denominator=total(c.DELIVERIES),
        window=SEVEN_DAYS,
        aliases={"braze": "Unique Open Rate", "onesignal": "Open rate"},
    ),
    Metric(
        "total_open_rate",
        "Total open rate (push)",
        "Push messages opened directly or under their influence over push deliveries.",
        "ratio",
        numerator=total(Term(c.UNIQUE_OPENS, only=PUSH), Term(c.INFLUENCED_OPENS, only=PUSH)),
        denominator=total(Term(c.DELIVERIES, only=PUSH)),
        window=SEVEN_DAYS,
        aliases={"braze": "Total Opens % (push)"},
    ),
    Metric(
        "unique_click_rate",
        "Unique click rate",
        "Messages clicked over deliveries; in-app messages and content cards: over unique "
        "impressions.",
        "ratio",
        numerator=total(c.UNIQUE_CLICKS),
        denominator=total(
            Term(c.DELIVERIES, without=SHOWN_IN_APP),
            Term(c.UNIQUE_IMPRESSIONS, only=SHOWN_IN_APP),
        ),
        window=SEVEN_DAYS,
        aliases={"braze": "Unique Click Rate", "onesignal": "Click-through rate (CTR)"},
    ),
    Metric(
        "click_to_open_rate",
        "Click-to-open rate",
        "Messages clicked over messages opened.",
        "ratio",
        numerator=total(c.UNIQUE_CLICKS),
        denominator=total(c.UNIQUE_OPENS),
        window=SEVEN_DAYS,
        aliases={"braze": "Click-to-Open Rate"},
    ),
    Metric(
        "conversion_rate",
        "Conversion rate",
        "Messages with the primary conversion over unique recipients; in-app: over unique "
        "impressions.",
        "ratio",
        numerator=total(c.CONVERSIONS),
        denominator=total(
            Term(c.UNIQUE_RECIPIENTS, without=("in_app",)),
            Term(c.UNIQUE_IMPRESSIONS, only=("in_app",)),
        ),
        window=CAMPAIGN_WINDOW,
        aliases={"braze": "Primary Conversions (A) %"},
    ),
    Metric(
        "abort_rate",
        "Abort rate",
        "Aborted messages over targeted messages, holdouts included in both.",
        "ratio",
        numerator=total(c.ABORTS),
        denominator=total(c.TARGETED),
        lower_is_better=True,
    ),
    Metric(
        "sms_confirmed_rate",
        "SMS confirmed rate",
        "SMS deliveries confirmed by the carrier over SMS sends.",
        "ratio",
        numerator=total(Term(c.DELIVERIES, only=("sms",))),
        denominator=total(Term(c.SENDS, only=("sms",))),
        owner="deliverability",
        aliases={"braze": "Confirmed Delivery %"},
    ),
    Metric(
        "sms_rejected_rate",
        "SMS rejected rate",
        "SMS the carrier refused for good over SMS sends.",
        "ratio",
        numerator=total(Term(c.BOUNCES, only=("sms",))),
        denominator=total(Term(c.SENDS, only=("sms",))),
        owner="deliverability",
        aliases={"braze": "Rejections %"},
        lower_is_better=True,
    ),
    Metric(
        "read_rate",
        "Read rate (WhatsApp)",
        "WhatsApp messages read over WhatsApp sends.",
        "ratio",
        numerator=total(Term(c.READS, only=("whatsapp",))),
        denominator=total(Term(c.SENDS, only=("whatsapp",))),
        aliases={"braze": "Read Rate"},
    ),
    Metric(
        "revenue_per_recipient",
        "Revenue per recipient",
        "Revenue over unique recipients.",
        "currency",
        numerator=total(c.REVENUE),
        denominator=total(c.UNIQUE_RECIPIENTS),
        owner="finance",
    ),
    Metric(
        "cost_per_conversion",
        "Cost per conversion",
        "Cost over messages with the primary conversion.",
        "currency",
        numerator=total(c.COST),
        denominator=total(c.CONVERSIONS),
        owner="finance",
        lower_is_better=True,
    ),
    Metric(
        "roi",
        "Return on investment",
        "Revenue minus cost, over cost.",
        "ratio",
        numerator=total(c.REVENUE, Term(c.COST, -1)),
        denominator=total(c.COST),
        owner="finance",
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({m.name: m for m in (*_COUNTS, *_RATIOS)})
"""Every metric by name."""

DIMENSIONS: Mapping[str, Dimension] = MappingProxyType(
    {
        d.name: d
        for d in (
            Dimension("campaign", "campaign_id", "Campaign", "Campaign id."),
            Dimension("campaign_name", "campaign_name", "Campaign name", "Latest name."),
            Dimension("category", "category", "Category", "Transactional, promotional, ..."),
            Dimension("channel", "channel", "Channel", "email, push, sms, in_app, ..."),
            Dimension("variant", "variant_id", "Variant", "Variant of the campaign; '' if none."),
            Dimension("country", "country", "Country", "ISO 3166-1 alpha-2; '' if unknown."),
            Dimension("platform", "platform", "Platform", "ios, android, web, ..."),
            Dimension("device_class", "device_class", "Device class", "phone, tablet, desktop."),
        )
    }
)
"""Every dimension by name, the same for both date scopes."""


def exposed() -> Iterator[Exposed]:
    """Every metric as surfaces name it: `unique_open_rate`, `unique_open_rate__human`, ..."""
    for metric in METRICS.values():
        for audience in AUDIENCES if metric.audience_aware else AUDIENCES[:1]:
            suffix = "" if audience == "all" else f"__{audience}"
            yield Exposed(metric.name + suffix, metric, audience)


def resolve(name: str) -> Exposed | None:
    """The metric of an exposed name, or None."""
    return _EXPOSED.get(name)


def definition_version(metric: Metric) -> str:
    """`<version>-<hash of the formula>`: changes with the meaning, shown with every number."""
    text = f"{metric.sql('all')}|{metric.sql('human')}|{metric.sql('machine')}|{metric.window}"
    return f"{metric.version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


_EXPOSED: Mapping[str, Exposed] = {e.name: e for e in exposed()}
