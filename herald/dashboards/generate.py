"""Datasets from three sources: the list of marts, their dbt documentation, the metric registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from herald.dashboards.assets import (
    ASSETS_DIR,
    DATABASE_NAME,
    DATABASE_SLUG,
    SUPERSET_DIR,
    AssetError,
    Document,
    asset_uuid,
    dump,
    file_name,
)
from herald.dashboards.models import MARTS_DIR, Column, Model, read_models
from herald.metrics.registry import Exposed, Metric, definition_version, exposed

SPEC_FILE = SUPERSET_DIR / "datasets.yaml"
DATABASE_UUID = asset_uuid("database", DATABASE_SLUG)
SCHEMA = "marts"


class OwnMetric(BaseModel):
    """A figure about the pipeline, which the registry of business metrics does not hold."""

    model_config = ConfigDict(extra="forbid")

    label: str
    expression: str
    description: str
    format: str


class DatasetSpec(BaseModel):
    """One entry of superset/datasets.yaml."""

    model_config = ConfigDict(extra="forbid")

    title: str
    time: str
    grain: Literal["hourly", "message"] | None = None
    audience: bool = False
    metrics: dict[str, OwnMetric] = {}


def read_specs(path: Path = SPEC_FILE) -> dict[str, DatasetSpec]:
    """The list of marts to show.

    Raises:
        AssetError: an entry lacks a field, or has one too many.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return {name: DatasetSpec.model_validate(entry) for name, entry in entries.items()}
    except ValidationError as error:
        raise AssetError(f"{path.name}: {error}") from error


def render(
    specs: Mapping[str, DatasetSpec] | None = None, models: Mapping[str, Model] | None = None
) -> dict[str, str]:
    """What generated files hold, by path relative to superset/assets."""
    specs = read_specs() if specs is None else specs
    models = read_models(MARTS_DIR) if models is None else models
    files = {
        "metadata.yaml": dump(
            {"version": "1.0.0", "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"}
        ),
        f"databases/{file_name(DATABASE_SLUG, DATABASE_UUID)}": dump(database()),
    }
    for name, spec in specs.items():
        if name not in models:
            raise AssetError(f"datasets.yaml: {name} is not a documented dbt mart")
        document = dataset(name, spec, models[name])
        files[f"datasets/{DATABASE_SLUG}/{file_name(name, document['uuid'])}"] = dump(document)
    return files


def write(folder: Path = ASSETS_DIR) -> dict[str, list[str]]:
    """Bring the generated files up to date; tells what was written and what was removed."""
    wanted = render()
    changes = difference(wanted, folder)
    for name in [*changes["missing"], *changes["different"]]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], encoding="utf-8")
    for name in changes["unwanted"]:
        (folder / name).unlink()
    return changes


def difference(wanted: Mapping[str, str], folder: Path = ASSETS_DIR) -> dict[str, list[str]]:
    """Names of files that are missing, different, or present without a source."""
    present = {
        path.relative_to(folder).as_posix()
        for kind in ("databases", "datasets")
        for path in (folder / kind).rglob("*.yaml")
    }
    there = {n for n in wanted if (folder / n).is_file()}
    return {
        "missing": sorted(set(wanted) - there),
        "different": sorted(
            n for n in there if (folder / n).read_text(encoding="utf-8") != wanted[n]
        ),
        "unwanted": sorted(present - set(wanted)),
    }


def database() -> Document:
    """The connection: the reader, no writing; address and password are put in at the import."""
    return {
        "database_name": DATABASE_NAME,
        "sqlalchemy_uri": "clickhousedb://herald_reader:XXXXXXXXXX@warehouse:8123/marts",
        "cache_timeout": None,
        "expose_in_sqllab": True,
        "allow_run_async": False,
        "allow_ctas": False,
        "allow_cvas": False,
        "allow_dml": False,
        "allow_csv_upload": False,
        "extra": {
            "allows_virtual_table_explore": True,
            "metadata_params": {},
            "engine_params": {},
            "schemas_allowed_for_file_upload": [],
        },
        "impersonate_user": False,
        "uuid": DATABASE_UUID,
        "version": "1.0.0",
    }


def dataset(name: str, spec: DatasetSpec, model: Model) -> Document:
    """One dataset: a mart, its documented columns, and the metrics its columns can answer."""
    if spec.time not in model.columns:
        raise AssetError(f"datasets.yaml: {name} has no column {spec.time!r} for its time")
    if spec.audience and "audience" not in model.columns:
        raise AssetError(f"datasets.yaml: {name} has no column 'audience'")
    metrics = registry_metrics(spec, model) + [
        own_metric(metric_name, metric) for metric_name, metric in spec.metrics.items()
    ]
    for metric in metrics:
        metric["expression"] = qualified(metric["expression"], model)
    return {
        "table_name": name,
        "main_dttm_col": spec.time,
        "description": f"{spec.title}. {model.description}",
        "default_endpoint": None,
        "offset": 0,
        "cache_timeout": None,
        "catalog": None,
        "schema": SCHEMA,
        "sql": None,
        "params": None,
        "template_params": None,
        "filter_select_enabled": True,
        "fetch_values_predicate": None,
        "extra": {
            "certification": {
                "certified_by": model.owner or "analytics",
                "details": "dbt mart with tests and a stated grain",
            }
        },
        "normalize_columns": False,
        "always_filter_main_dttm": False,
        "uuid": asset_uuid("dataset", name),
        "metrics": metrics,
        "columns": [column_document(c) for c in model.columns.values()],
        "version": "1.0.0",
        "database_uuid": DATABASE_UUID,
    }


def column_document(column: Column) -> Document:
    """One column; measures and states cannot be grouped by."""
    measure = column.is_numeric or column.is_state
    return {
        "column_name": column.name,
        "verbose_name": column.name.replace("_", " ").capitalize(),
        "is_dttm": column.is_temporal,
        "is_active": True,
        "type": column.data_type,
        "advanced_data_type": None,
        "groupby": not measure,
        "filterable": not column.is_state,
        "expression": None,
        "description": column.description or None,
        "python_date_format": None,
        "extra": {},
    }


def registry_metrics(spec: DatasetSpec, model: Model) -> list[Document]:
    """The registry's metrics that read only columns which the mart has."""
    if spec.grain is None:
        return []
    found = []
    for item in exposed():
        if spec.audience and item.audience != "all":
            continue
        expression = item.sql(spec.grain)
        if columns_read(expression) <= set(model.columns):
            found.append(
                metric_document(item, guarded(expression) if spec.audience else expression)
            )
    return found


def number_format(metric: Metric) -> str:
    """How a metric's value is written; small rates, the ones to keep low, get two decimals."""
    if metric.unit == "ratio":
        return ",.2%" if metric.lower_is_better else ",.1%"
    if metric.unit == "currency":
        return ",.2f" if metric.denominator else ",.0f"
    return ",d" if metric.unit == "count" else ",.1f"


def guarded(expression: str) -> str:
    """The expression where one audience was chosen, else null: three audiences would add up."""
    return f"if(min(audience) = max(audience), {expression}, null)"


def qualified(expression: str, model: Model) -> str:
    """The expression with its columns named in full, `fct_messages.sends`.

    Superset writes `sum(sends) as sends, sum(opens) / sum(sends) as rate`; ClickHouse then reads
    the second `sends` as the alias of the first, an aggregate inside an aggregate (error 184).
    """
    unknown = columns_read(expression) - set(model.columns)
    if unknown:
        raise AssetError(f"{model.name} has no column {', '.join(sorted(unknown))}: {expression}")

    def name(match: re.Match[str]) -> str:
        word = match[0]
        return f"{model.name}.{word}" if word in model.columns else word

    return _TOKEN.sub(name, expression)


def metric_document(item: Exposed, expression: str) -> Document:
    """One certified metric."""
    window = f" Window: {item.metric.window}." if item.metric.window else ""
    return {
        "metric_name": item.name,
        "verbose_name": item.label,
        "metric_type": None,
        "expression": expression,
        "description": f"{item.metric.description}{window}",
        "d3format": number_format(item.metric),
        "currency": None,
        "extra": {
            "certification": {
                "certified_by": f"Herald metric registry ({item.metric.owner})",
                "details": f"{item.metric.formula}; definition {definition_version(item.metric)}",
            },
            "warning_markdown": "",
        },
        "warning_text": None,
    }


def own_metric(name: str, metric: OwnMetric) -> Document:
    """One figure about the pipeline."""
    return {
        "metric_name": name,
        "verbose_name": metric.label,
        "metric_type": None,
        "expression": metric.expression,
        "description": metric.description,
        "d3format": metric.format,
        "currency": None,
        "extra": {"warning_markdown": ""},
        "warning_text": None,
    }


# a quoted string, or a word that calls no function
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|\b[a-zA-Z_]\w*\b(?!\s*\()")
_KEYWORDS = {"and", "or", "not", "in", "is", "null", "true", "false", "as", "distinct", "if"}


def columns_read(expression: str) -> set[str]:
    """Columns that an SQL expression of ours reads: its words but functions and keywords."""
    return {
        word
        for word in _TOKEN.findall(expression)
        if not word.startswith("'") and word.lower() not in _KEYWORDS
    }


def check(folder: Path = ASSETS_DIR) -> list[str]:
    """Every generated file that differs from its sources, as messages."""
    changes: dict[str, Any] = difference(render(), folder)
    return [f"{name}: {kind}" for kind, names in changes.items() for name in names]
