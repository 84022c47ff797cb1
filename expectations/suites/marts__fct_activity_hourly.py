"""marts.fct_activity_hourly: counts by the hour it happened (date scope "event in range")."""

from __future__ import annotations

from expectations.checks import grain_is_unique, has_rows, never_more, not_empty, not_null
from expectations.marts import adds_up_to_messages
from expectations.model import Suite
from herald.settings import Settings


def suite(settings: Settings) -> Suite:
    """Checks of marts.fct_activity_hourly."""
    return Suite(
        table="marts.fct_activity_hourly",
        layer="marts",
        purpose="Counts by the hour it happened (date scope 'event in range'); they add up.",
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
            never_more("human_opens", "opens"),
            never_more("human_clicks", "clicks"),
            adds_up_to_messages(),
        ),
    )
