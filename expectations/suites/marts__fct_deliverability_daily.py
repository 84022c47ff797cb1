"""marts.fct_deliverability_daily: what became of sends, by provider and address pool."""

from __future__ import annotations

from expectations.checks import between_zero_and_one, grain_is_unique, has_rows, not_null
from expectations.marts import adds_up_to_messages
from expectations.model import Suite
from herald.settings import Settings


def suite(settings: Settings) -> Suite:
    """Checks of marts.fct_deliverability_daily."""
    return Suite(
        table="marts.fct_deliverability_daily",
        layer="marts",
        purpose="Deliverability by provider: every send of the messages is in it.",
        checks=(
            has_rows(),
            grain_is_unique(
                "tenant_id", "sent_date", "channel", "provider", "mailbox_provider", "ip_pool"
            ),
            *not_null("sent_date"),
            between_zero_and_one("bounce_rate"),
            between_zero_and_one("spam_rate"),
            adds_up_to_messages(("sends",), where="is_sent"),
        ),
    )
