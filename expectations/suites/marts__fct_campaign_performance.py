"""marts.fct_campaign_performance: counts and ratios of a campaign's variant by day of send."""

from __future__ import annotations

from expectations.checks import (
    between_zero_and_one,
    grain_is_unique,
    has_rows,
    not_empty,
    not_null,
    same_total,
)
from expectations.model import Suite
from herald.settings import Settings

_RATES = ("bounce_rate", "spam_rate", "abort_rate", "unsubscribe_rate")
_COUNTS = ("sends", "deliveries", "bounces", "unique_opens", "unique_clicks", "conversions")


def suite(settings: Settings) -> Suite:
    """Checks of marts.fct_campaign_performance."""
    totals = ", ".join(f"sum({name}) as {name}" for name in _COUNTS)
    return Suite(
        table="marts.fct_campaign_performance",
        layer="marts",
        purpose="Campaign results by day: the counts of the hourly mart, ratios computed last.",
        checks=(
            has_rows(),
            grain_is_unique("tenant_id", "campaign_id", "variant_id", "channel", "sent_date"),
            *not_empty("tenant_id", "channel"),
            *not_null("sent_date"),
            *(between_zero_and_one(rate) for rate in _RATES),
            same_total(
                "adds_up_to_fct_engagement_hourly",
                f"select {totals} from {{batch}}",
                f"select {totals} from marts.fct_engagement_hourly",
                _COUNTS,
                "totals equal to those of marts.fct_engagement_hourly",
            ),
        ),
    )
