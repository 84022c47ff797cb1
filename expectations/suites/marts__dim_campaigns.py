"""marts.dim_campaigns: a slowly changing dimension with one current row for each campaign."""

from __future__ import annotations

from expectations.dimensions import dimension
from expectations.model import Suite
from herald.settings import Settings


def suite(settings: Settings) -> Suite:
    """Checks of marts.dim_campaigns."""
    return dimension("marts.dim_campaigns", "campaign_id")
