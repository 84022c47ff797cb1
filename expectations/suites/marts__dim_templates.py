"""marts.dim_templates: a slowly changing dimension with one current row for each template."""

from __future__ import annotations

from expectations.dimensions import dimension
from expectations.model import Suite
from herald.settings import Settings


def suite(settings: Settings) -> Suite:
    """Checks of marts.dim_templates."""
    return dimension("marts.dim_templates", "template_id")
