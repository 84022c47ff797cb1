"""Assets as exported by Superset, without what changes from one installation to the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herald.dashboards.assets import ASSETS_DIR, Assets, Document, dump, file_name, slugify

DATASOURCE = "0__table"
CHART_KEYS = (
    "slice_name", "description", "certified_by", "certification_details", "viz_type", "params",
    "query_context", "cache_timeout", "uuid", "version", "dataset_uuid",
)  # fmt: skip
DASHBOARD_KEYS = (
    "dashboard_title", "description", "css", "slug", "certified_by", "certification_details",
    "published", "uuid", "position", "metadata", "version",
)  # fmt: skip
METADATA_KEYS = (
    "color_scheme", "label_colors", "cross_filters_enabled", "refresh_frequency",
    "timed_refresh_immune_slices", "expanded_slices", "native_filter_configuration",
    "filter_bar_orientation",
)  # fmt: skip
VOLATILE_PARAMS = ("slice_id", "dashboards", "dashboardId", "url_params", "cache_timeout")
VOLATILE_FILTER_KEYS = ("chartsInScope", "tabsInScope")


def chart(document: Mapping[str, Any]) -> Document:
    """A chart without ids of one installation; parameters in alphabetical order."""
    params = {k: v for k, v in (document.get("params") or {}).items() if k not in VOLATILE_PARAMS}
    params["datasource"] = DATASOURCE
    params.setdefault("annotation_layers", [])  # Superset's import adds it
    clean = {key: document.get(key) for key in CHART_KEYS}
    # the saved query repeats the parameters with ids of one installation
    return clean | {"params": _sorted(params), "query_context": None}


def dashboard(document: Mapping[str, Any]) -> Document:
    """A dashboard whose layout names charts by uuid only."""
    position = {
        key: _without_chart_id(node) for key, node in (document.get("position") or {}).items()
    }
    given = document.get("metadata") or {}
    metadata = {key: given[key] for key in METADATA_KEYS if key in given}
    metadata["native_filter_configuration"] = [
        {k: v for k, v in entry.items() if k not in VOLATILE_FILTER_KEYS}
        for entry in given.get("native_filter_configuration") or []
    ]
    clean = {key: document.get(key) for key in DASHBOARD_KEYS}
    return clean | {"position": _sorted(position), "metadata": _sorted(metadata)}


def _without_chart_id(node: object) -> object:
    if isinstance(node, dict) and node.get("type") == "CHART":
        return {**node, "meta": {**node["meta"], "chartId": 0}}
    return node


def _sorted(value: Any) -> Any:
    """The value with the keys of every mapping in order: Superset keeps none of its own."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def render(exported: Assets, folder: Path = ASSETS_DIR) -> dict[str, str]:
    """Files of charts and dashboards, by path relative to the assets folder.

    An asset that is there already keeps its file name. Databases and datasets are left out:
    `herald superset generate` writes them.
    """
    names = {}
    for kind in ("charts", "dashboards"):
        for path in (folder / kind).glob("*.yaml"):
            names[path.stem.rpartition("_")[2]] = f"{kind}/{path.name}"
    files = {}
    for kind, clean, title in (
        ("charts", chart, "slice_name"),
        ("dashboards", dashboard, "dashboard_title"),
    ):
        for _, document in exported.of(kind):
            uuid = str(document["uuid"])
            fresh = f"{kind}/{file_name(slugify(str(document[title])), uuid)}"
            files[names.get(uuid[:8], fresh)] = dump(clean(document))
    return files


def write(exported: Assets, folder: Path = ASSETS_DIR) -> list[str]:
    """Write charts and dashboards; tells the files that changed."""
    changed = []
    for name, text in render(exported, folder).items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return sorted(changed)
