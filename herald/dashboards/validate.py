"""Checks the assets against the dbt documentation and each other. No server, no credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from herald.dashboards import normalise
from herald.dashboards.assets import Assets, Document, chart_nodes
from herald.dashboards.generate import SCHEMA, columns_read
from herald.dashboards.models import Model

METRIC_PARAMS = ("metric", "metrics", "metrics_b", "secondary_metric", "percent_metrics",
                 "timeseries_limit_metric", "x_axis_sort")  # fmt: skip
COLUMN_PARAMS = ("groupby", "groupby_b", "all_columns", "columns", "entity", "x_axis", "series",
                 "source", "target", "granularity_sqla")  # fmt: skip
FILTER_PARAMS = ("adhoc_filters", "adhoc_filters_b")
FILE_NAME = re.compile(r"[a-z0-9_]+_([0-9a-f]{8})\.yaml")


def validate(assets: Assets, models: Mapping[str, Model], access: Mapping[str, Any]) -> list[str]:
    """Every problem of the assets, as `file: what is wrong`; an empty list means they are sound.

    Args:
        assets: the documents.
        models: the dbt marts by name.
        access: content of superset/access.yaml.
    """
    datasets = assets.by_uuid("datasets")
    return [
        *_files(assets),
        *(f"{n}: {p}" for n, d in assets.of("databases") for p in _database(d)),
        *(f"{n}: {p}" for n, d in assets.of("datasets") for p in _dataset(d, models, assets)),
        *(f"{n}: {p}" for n, d in assets.of("charts") for p in _chart(d, datasets)),
        *(f"{n}: {p}" for n, d in assets.of("dashboards") for p in _dashboard(d, assets, access)),
        *_unused(assets),
        *_access(assets, access),
    ]


def _files(assets: Assets) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name, document in assets.files.items():
        if name == "metadata.yaml":
            if document.get("type") != "assets":
                yield f"{name}: type is {document.get('type')!r}, not 'assets'"
            continue
        uuid = str(document.get("uuid") or "")
        match = FILE_NAME.fullmatch(PurePosixPath(name).name)
        if not match or not uuid.startswith(match[1]):
            yield f"{name}: is not called <slug>_{uuid[:8]}.yaml"
        if uuid in seen:
            yield f"{name}: has the uuid of {seen[uuid]}"
        seen[uuid] = name


def _database(document: Document) -> Iterator[str]:
    uri = str(document.get("sqlalchemy_uri"))
    password = re.search(r":([^:@/]*)@", uri)
    if not password or password[1] != "XXXXXXXXXX":
        yield "sqlalchemy_uri holds a password; it is put in at the import"
    for name in ("allow_dml", "allow_ctas", "allow_cvas", "allow_csv_upload"):
        if document.get(name) is not False:
            yield f"{name} is {document.get(name)!r}; dashboards only read"


def _dataset(document: Document, models: Mapping[str, Model], assets: Assets) -> Iterator[str]:
    name = str(document.get("table_name"))
    if document.get("sql"):
        yield f"dataset {name} is made of SQL; put it into a dbt mart"
    if document.get("schema") != SCHEMA:
        yield f"dataset {name} reads schema {document.get('schema')!r}, not {SCHEMA!r}"
    if document.get("database_uuid") not in assets.by_uuid("databases"):
        yield f"dataset {name} names a database that is not here"
    if name not in models:
        yield f"dataset {name} is not a dbt mart"
        return
    columns = models[name].columns
    shown = {c["column_name"]: c for c in document.get("columns") or []}
    for column, entry in shown.items():
        if entry.get("expression"):
            yield f"{name}.{column} is made of SQL; put it into the dbt mart"
        elif column not in columns:
            yield f"{name}.{column} is not a column of the dbt mart"
        elif entry.get("type") != columns[column].data_type:
            yield f"{name}.{column} is {entry.get('type')}, in dbt {columns[column].data_type}"
    for column in sorted(set(columns) - set(shown)):
        yield f"{name}.{column} is missing"
    if document.get("main_dttm_col") not in columns:
        yield f"{name}: time column {document.get('main_dttm_col')!r} is not in the dbt mart"
    for metric in document.get("metrics") or []:
        words = columns_read(str(metric["expression"]).replace(f"{name}.", ""))
        for unknown in sorted(words - set(columns)):
            yield f"metric {metric['metric_name']} reads {unknown}, not a column of {name}"


def _chart(document: Document, datasets: Mapping[str, Document]) -> Iterator[str]:
    params = document.get("params") or {}
    if normalise.chart(document) != document:
        yield "is not normalised; write it with `herald superset export`"
    if document.get("viz_type") != params.get("viz_type"):
        yield f"viz_type {document.get('viz_type')!r} differs from its parameters'"
    dataset = datasets.get(str(document.get("dataset_uuid")))
    if dataset is None:
        yield f"names a dataset that is not here: {document.get('dataset_uuid')}"
        return
    table = dataset["table_name"]
    metrics = {m["metric_name"] for m in dataset["metrics"]}
    columns = {c["column_name"] for c in dataset["columns"]}
    for name, value in _named(params, METRIC_PARAMS):
        if isinstance(value, dict):
            yield f"{name} holds a metric of its own; add it to the registry or datasets.yaml"
        elif value not in metrics and not (name == "x_axis_sort" and value in columns):
            yield f"{name}: {table} has no metric {value!r}"
    for name, value in _named(params, COLUMN_PARAMS):
        if isinstance(value, dict):
            yield f"{name} holds a column made of SQL; put it into the dbt mart"
        elif value not in columns:
            yield f"{name}: {table} has no column {value!r}"
    for entry in params.get("order_by_cols") or []:
        if (column := json.loads(entry)[0]) not in columns:
            yield f"order_by_cols: {table} has no column {column!r}"
    for name in FILTER_PARAMS:
        for condition in params.get(name) or []:
            if condition.get("expressionType") != "SIMPLE":
                yield f"{name} holds a filter made of SQL"
            elif condition.get("subject") not in columns:
                yield f"{name}: {table} has no column {condition.get('subject')!r}"


def _named(params: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in names:
        value = params.get(name)
        for item in value if isinstance(value, list) else [value]:
            if item not in (None, ""):
                yield name, item


def _dashboard(document: Document, assets: Assets, access: Mapping[str, Any]) -> Iterator[str]:
    charts = assets.by_uuid("charts")
    datasets = assets.by_uuid("datasets")
    if normalise.dashboard(document) != document:
        yield "is not normalised; write it with `herald superset export`"
    if not document.get("description"):
        yield "has no description"
    for meta in chart_nodes(document):
        chart = charts.get(str(meta.get("uuid")))
        if chart is None:
            yield f"shows a chart that is not here: {meta.get('sliceName')!r} {meta.get('uuid')}"
        elif chart["slice_name"] != meta.get("sliceName"):
            yield f"calls chart {chart['slice_name']!r} {meta.get('sliceName')!r}"
    for entry in (document.get("metadata") or {}).get("native_filter_configuration") or []:
        for target in entry.get("targets") or []:
            if not target:
                continue
            dataset = datasets.get(str(target.get("datasetUuid")))
            column = target["column"]["name"]
            if dataset is None:
                yield f"filter {entry['name']!r} names a dataset that is not here"
            elif column not in {c["column_name"] for c in dataset["columns"]}:
                yield f"filter {entry['name']!r}: {dataset['table_name']} has no column {column!r}"
    if document.get("slug") not in access["dashboards"]:
        yield f"superset/access.yaml names no role for {document.get('slug')!r}"


def _unused(assets: Assets) -> Iterator[str]:
    shown = {str(m.get("uuid")) for _, d in assets.of("dashboards") for m in chart_nodes(d)}
    for name, document in assets.of("charts"):
        if str(document.get("uuid")) not in shown:
            yield f"{name}: is on no dashboard"


def _access(assets: Assets, access: Mapping[str, Any]) -> Iterator[str]:
    slugs = {d.get("slug") for _, d in assets.of("dashboards")}
    for slug in access["dashboards"]:
        if slug not in slugs:
            yield f"access.yaml: there is no dashboard {slug!r}"
