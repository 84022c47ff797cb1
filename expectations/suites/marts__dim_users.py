"""marts.dim_users: a slowly changing dimension with one current row for each user."""

from __future__ import annotations

from expectations.dimensions import dimension
from expectations.model import Suite
from herald.settings import Settings


def suite(settings: Settings) -> Suite:
    """Checks of marts.dim_users."""
    return dimension("marts.dim_users", "user_id")
