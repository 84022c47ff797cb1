"""Superset's dashboards as code: generate, validate, import, open in a browser, read a number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herald.dashboards.assets import AssetError, Assets
from herald.dashboards.client import FilterValue, SupersetClient, SupersetError, read_access
from herald.settings import Settings

__all__ = [
    "AssetError",
    "SupersetError",
    "check_dashboards",
    "import_assets",
    "metric_value",
]


def import_assets(settings: Settings) -> dict[str, int]:
    """Overwrite Superset's content with superset/assets and set roles; twice changes nothing.

    Returns:
        How many databases, datasets, charts and dashboards were imported.

    Raises:
        SupersetError: Superset is down or refuses.
    """
    assets = Assets.read()
    with SupersetClient(settings) as client:
        client.import_assets(assets)
        client.apply_access(*read_access())
    kinds = ("databases", "datasets", "charts", "dashboards")
    return {kind: sum(1 for _ in assets.of(kind)) for kind in kinds}


def check_dashboards(
    settings: Settings, out_dir: Path, *, timeout_seconds: float = 120.0
) -> list[dict[str, Any]]:
    """Open every dashboard in headless Chromium.

    Returns:
        One record each: slug, charts (their number), errors (messages), seconds until all were
        drawn, screenshot (path of a PNG in `out_dir`), refused_hosts (blocked by the policy).
    """
    # playwright is needed for this alone
    from herald.dashboards.browser import check_dashboards as check

    slugs = sorted(str(document["slug"]) for _, document in Assets.read().of("dashboards"))
    opened = check(settings, slugs, out_dir, timeout_seconds=timeout_seconds)
    return [item.record() for item in opened]


def metric_value(
    settings: Settings, metric: str, filters: Mapping[str, FilterValue] | None = None
) -> float | None:
    """A metric of marts.fct_engagement_hourly as Superset computes it; None for no answer."""
    with SupersetClient(settings) as client:
        return client.metric_value(metric, filters)
