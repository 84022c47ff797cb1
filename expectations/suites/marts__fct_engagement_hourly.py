"""marts.fct_engagement_hourly: counts by the hour of the send (date scope "sent in range")."""

from __future__ import annotations

from expectations.checks import grain_is_unique, has_rows, never_more, not_empty, not_null
from expectations.marts import LATE_REFUSAL_SHARE, adds_up_to_messages
from expectations.model import Suite
from herald.settings import Settings


def suite(settings: Settings) -> Suite:
    """Checks of marts.fct_engagement_hourly."""
    return Suite(
        table="marts.fct_engagement_hourly",
        layer="marts",
        purpose="Counts by the hour of the send (date scope 'sent in range'); they add up.",
        checks=(
            has_rows(),
            grain_is_unique(
                "tenant_id",
                "campaign_id",
                "variant_id",
                "channel",
                "country",
                "platform",
                "device_class",
                "hour_at",
            ),
            *not_empty("tenant_id", "channel"),
            *not_null("hour_at"),
            never_more("deliveries", "sends", tolerated_share=LATE_REFUSAL_SHARE),
            never_more("unique_opens", "opens", tolerated_share=LATE_REFUSAL_SHARE),
            never_more("unique_clicks", "clicks", tolerated_share=LATE_REFUSAL_SHARE),
            never_more("unique_human_opens", "unique_opens"),
            adds_up_to_messages(),
        ),
    )
