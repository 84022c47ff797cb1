"""Dashboards as code, without a server: generated files, planted mistakes, normalised exports."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from herald.dashboards import generate, normalise
from herald.dashboards.assets import (
    ASSETS_DIR,
    AssetError,
    Assets,
    Document,
    asset_uuid,
    chart_nodes,
    dump,
    file_name,
    slugify,
)
from herald.dashboards.client import read_access
from herald.dashboards.models import Column, Model, read_models
from herald.dashboards.validate import validate
from herald.metrics.registry import METRICS, exposed


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return read_models()


@pytest.fixture(scope="module")
def committed() -> Assets:
    return Assets.read()


@pytest.fixture
def documents(committed: Assets) -> dict[str, Document]:
    return copy.deepcopy(dict(committed.files))


def problems(documents: dict[str, Document], models: dict[str, Model]) -> list[str]:
    return validate(Assets(documents), models, read_access()[0])


def only(documents: dict[str, Document], prefix: str) -> Document:
    names = [name for name in documents if name.startswith(prefix)]
    assert len(names) == 1, names
    return documents[names[0]]


def test_committed_datasets_equal_their_sources_when_generated_again() -> None:
    assert generate.check() == []


def test_committed_assets_are_sound_when_validated(
    documents: dict[str, Document], models: dict[str, Model]
) -> None:
    assert problems(documents, models) == []
    assert len(list(Assets(documents).of("charts"))) >= 20


def test_every_registry_metric_is_certified_in_the_engagement_dataset() -> None:
    dataset = only(dict(Assets.read().files), "datasets/herald_warehouse/fct_engagement_hourly")
    metrics = {m["metric_name"]: m for m in dataset["metrics"]}

    assert metrics.keys() == {item.name for item in exposed()}
    assert set(METRICS) <= metrics.keys()
    for item in exposed():
        plain = metrics[item.name]["expression"].replace("fct_engagement_hourly.", "")
        assert plain == item.sql("hourly")
        assert item.metric.owner in metrics[item.name]["extra"]["certification"]["certified_by"]


def test_charts_of_the_overview_follow_the_audience_filter(models: dict[str, Model]) -> None:
    assets = Assets.read()
    board = assets.dashboard("campaign-overview")
    filters = {f["name"]: f for f in board["metadata"]["native_filter_configuration"]}

    assert filters.keys() == {"Sent", "Audience", "Channel", "Campaign"}
    audience = filters["Audience"]
    assert audience["controlValues"]["enableEmptyFilter"] is True
    assert audience["controlValues"]["multiSelect"] is False
    charts = assets.by_uuid("charts")
    overview = asset_uuid("dataset", "rpt_campaign_overview")
    engaged = {
        charts[node["uuid"]]["slice_name"]
        for node in chart_nodes(board)
        if re.search("open|click", str(charts[node["uuid"]]["params"]))
    }
    on_overview = {c["slice_name"] for c in charts.values() if c["dataset_uuid"] == overview}
    assert engaged
    assert engaged <= on_overview
    # no column of one audience alone may hide in the dataset behind the filter
    assert not [
        c for c in models["rpt_campaign_overview"].columns if "human" in c or "machine" in c
    ]


@pytest.mark.parametrize(
    ("prefix", "change", "message"),
    [
        (
            "datasets/herald_warehouse/fct_messages",
            ("table_name", "fct_mesages"),
            "fct_mesages is not a dbt mart",
        ),
        (
            "datasets/herald_warehouse/fct_messages",
            ("schema", "raw"),
            "reads schema 'raw', not 'marts'",
        ),
        ("datasets/herald_warehouse/fct_messages", ("sql", "select 1"), "is made of SQL"),
        ("datasets/herald_warehouse/fct_messages", ("main_dttm_col", "at"), "time column 'at'"),
        ("databases/", ("allow_dml", True), "allow_dml is True"),
        ("databases/", ("sqlalchemy_uri", "clickhousedb://r:secret@h:1/marts"), "holds a password"),
        ("charts/kpi_sends_", ("dataset_uuid", "0"), "names a dataset that is not here"),
        ("charts/kpi_sends_", ("viz_type", "table"), "differs from its parameters'"),
        ("dashboards/pipeline_operator", ("description", ""), "has no description"),
        ("dashboards/pipeline_operator", ("slug", "operator"), "names no role for 'operator'"),
    ],
)
def test_validate_names_the_mistake_when_a_field_is_wrong(
    documents: dict[str, Document],
    models: dict[str, Model],
    prefix: str,
    change: tuple[str, Any],
    message: str,
) -> None:
    only(documents, prefix)[change[0]] = change[1]

    found = problems(documents, models)
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("prefix", "param", "value", "message"),
    [
        ("charts/kpi_sends_", "metric", "sendz", "has no metric 'sendz'"),
        ("charts/kpi_sends_", "metric", {"expressionType": "SQL"}, "a metric of its own"),
        ("charts/top_campaigns_", "groupby", ["campaign"], "has no column 'campaign'"),
        ("charts/top_campaigns_", "groupby", [{"sqlExpression": "1"}], "a column made of SQL"),
        ("charts/slowest_queries_", "order_by_cols", ['["p99", false]'], "has no column 'p99'"),
        (
            "charts/country_map_",
            "adhoc_filters",
            [{"expressionType": "SQL"}],
            "a filter made of SQL",
        ),
        (
            "charts/country_map_",
            "adhoc_filters",
            [{"expressionType": "SIMPLE", "subject": "land"}],
            "has no column 'land'",
        ),
        ("charts/country_map_", "slice_id", 12, "is not normalised"),
    ],
)
def test_validate_names_the_mistake_when_a_chart_asks_for_what_is_not_there(
    documents: dict[str, Document],
    models: dict[str, Model],
    prefix: str,
    param: str,
    value: object,
    message: str,
) -> None:
    only(documents, prefix)["params"][param] = value

    found = problems(documents, models)
    assert any(message in problem for problem in found), found


def test_validate_names_columns_when_the_mart_changed(
    documents: dict[str, Document], models: dict[str, Model]
) -> None:
    name = "fct_deliverability_daily"
    columns = dict(models[name].columns)
    del columns["sends"]
    columns["bounces"] = Column("bounces", "Int8", "")
    columns["bounced_domains"] = Column("bounced_domains", "UInt64", "")
    changed = {**models, name: Model(name, "", "", columns)}

    found = "\n".join(problems(documents, changed))
    assert f"{name}.sends is not a column of the dbt mart" in found
    assert f"{name}.bounces is UInt64, in dbt Int8" in found
    assert f"{name}.bounced_domains is missing" in found
    assert f"reads sends, not a column of {name}" in found


def test_validate_finds_charts_that_no_dashboard_shows(
    documents: dict[str, Document], models: dict[str, Model]
) -> None:
    board = only(documents, "dashboards/campaign_overview")
    nodes = [k for k, n in board["position"].items() if k.startswith("CHART-kpi_revenue")]
    del board["position"][nodes[0]]
    chart_nodes(board)[0]["uuid"] = "00000000-0000-0000-0000-000000000000"

    found = "\n".join(problems(documents, models))
    assert "charts/kpi_revenue" in found
    assert "is on no dashboard" in found
    assert "shows a chart that is not here" in found


def test_validate_finds_wrong_files_filters_and_roles(
    documents: dict[str, Document], models: dict[str, Model]
) -> None:
    board = only(documents, "dashboards/campaign_overview")
    filters = board["metadata"]["native_filter_configuration"]
    for entry in filters:
        if entry["name"] == "Channel":
            entry["targets"][0]["column"]["name"] = "chanel"
        if entry["name"] == "Campaign":
            entry["targets"][0]["datasetUuid"] = "gone"
    documents["charts/Odd name.yaml"] = copy.deepcopy(only(documents, "charts/kpi_sends_"))
    documents["metadata.yaml"]["type"] = "Dashboard"
    access = read_access()[0]
    access["dashboards"]["gone"] = []

    found = "\n".join(validate(Assets(documents), models, access))
    assert "filter 'Channel': rpt_campaign_overview has no column 'chanel'" in found
    assert "filter 'Campaign' names a dataset that is not here" in found
    assert "charts/Odd name.yaml: is not called" in found
    assert "has the uuid of" in found
    assert "type is 'Dashboard'" in found
    assert "there is no dashboard 'gone'" in found


def test_generate_tells_the_difference_and_mends_it_when_files_changed(tmp_path: Path) -> None:
    first = generate.write(tmp_path)
    assert first["missing"]
    assert not any(generate.write(tmp_path).values())
    stray = tmp_path / "datasets" / "herald_warehouse" / "old_00000000.yaml"
    stray.write_text("a: 1\n")
    (tmp_path / "metadata.yaml").write_text("version: 2\n")

    problems = generate.check(tmp_path)
    assert problems == [
        "metadata.yaml: different",
        "datasets/herald_warehouse/old_00000000.yaml: unwanted",
    ]
    generate.write(tmp_path)
    assert generate.check(tmp_path) == []
    assert not stray.exists()


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("sum(sends) / nullIf(sum(deliveries), 0)", {"sends", "deliveries"}),
        ("sumIf(bounces, channel = 'it''s not a column')", {"bounces", "channel"}),
        (
            "uniqExactMergeIf(unique_recipients_state, channel != 'in_app')",
            {"unique_recipients_state", "channel"},
        ),
        (
            "uniqExactIf(user_id, (is_sent or is_impressed) and not is_held)",
            {"user_id", "is_sent", "is_impressed", "is_held"},
        ),
        ("if (1 = 1, max(hour_at), null)", {"hour_at"}),
    ],
)
def test_columns_read_leaves_out_functions_keywords_and_text(
    expression: str, columns: set[str]
) -> None:
    assert generate.columns_read(expression) == columns


def test_qualified_refuses_a_column_that_the_mart_lacks() -> None:
    model = Model("fct", "", "", {"sends": Column("sends", "UInt64", "")})

    assert generate.qualified("sum(sends) + 1", model) == "sum(fct.sends) + 1"
    with pytest.raises(AssetError, match="fct has no column opens"):
        generate.qualified("sum(opens)", model)


def test_render_names_the_mart_when_the_list_of_datasets_is_wrong(
    models: dict[str, Model],
) -> None:
    spec = generate.DatasetSpec(title="x", time="hour_at", grain="hourly")
    with pytest.raises(AssetError, match="fct_nothing is not a documented dbt mart"):
        generate.render({"fct_nothing": spec}, models)
    with pytest.raises(AssetError, match="has no column 'hour_at'"):
        generate.render({"fct_messages": spec}, models)
    with pytest.raises(AssetError, match="has no column 'audience'"):
        generate.render(
            {"fct_engagement_hourly": spec.model_copy(update={"audience": True})}, models
        )


def test_specs_name_the_field_when_one_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "datasets.yaml"
    path.write_text("fct_messages: {title: x, time: y, colour: red}\n")

    with pytest.raises(AssetError, match="colour"):
        generate.read_specs(path)


def test_models_name_the_file_when_documentation_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "models.yml"
    with pytest.raises(AssetError, match="no dbt model"):
        read_models(tmp_path)
    path.write_text("models: [{name: m, columns: [{name: c}]}]\n")
    with pytest.raises(AssetError, match=r"models.yml: m.c has no data_type"):
        read_models(tmp_path)
    path.write_text("models: [{name: m}, {name: m}]\n")
    with pytest.raises(AssetError, match="documented twice"):
        read_models(tmp_path)
    path.write_text("models: [{name: m, description: \"{{ doc('gone') }}\"}]\n")
    with pytest.raises(AssetError, match="doc block 'gone'"):
        read_models(tmp_path)


def test_models_resolve_text_that_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "docs.md").write_text("{% docs sends %}\nMessages\nsent.\n{% enddocs %}\n")
    (tmp_path / "m.yml").write_text(
        "models:\n- name: m\n  config: {meta: {owner: me}}\n  columns:\n"
        "  - {name: c, data_type: 'Nullable(DateTime)', description: \"{{ doc('sends') }} UTC.\"}\n"
    )
    model = read_models(tmp_path)["m"]

    assert model.owner == "me"
    assert model.columns["c"].description == "Messages sent. UTC."
    assert model.columns["c"].is_temporal
    assert not model.columns["c"].is_numeric


def test_export_equals_the_committed_files_when_ids_of_an_installation_are_added(
    documents: dict[str, Document], tmp_path: Path
) -> None:
    for name, document in documents.items():
        if name.startswith("charts/"):
            document["params"] |= {"datasource": "71__table", "slice_id": 9, "dashboards": [3]}
            document |= {"query_context": "{}", "tags": []}
        if name.startswith("dashboards/"):
            for node in chart_nodes(document):
                node["chartId"] = 55
            document["metadata"] |= {"shared_label_colors": ["a"], "chart_configuration": {"1": {}}}
            for entry in document["metadata"]["native_filter_configuration"]:
                entry["chartsInScope"] = [55]
            document["theme_uuid"] = None

    assert normalise.render(Assets(documents)) == {
        name: (ASSETS_DIR / name).read_text(encoding="utf-8")
        for name in documents
        if name.startswith(("charts/", "dashboards/"))
    }
    written = normalise.write(Assets(documents), tmp_path)
    assert len(written) == len([n for n in documents if n.startswith(("charts/", "dashboards/"))])
    assert normalise.write(Assets(documents), tmp_path) == []


def test_assets_name_the_file_when_it_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no assets below"):
        Assets.read(tmp_path)
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(AssetError, match=r"a.yaml: holds no mapping"):
        Assets.read(tmp_path)
    (tmp_path / "a.yaml").write_text("a: [\n")
    with pytest.raises(AssetError, match=r"a.yaml: not YAML"):
        Assets.read(tmp_path)


def test_names_are_stable() -> None:
    assert slugify("Sends, opens & clicks a day!") == "sends_opens_clicks_a_day"
    assert file_name("x", asset_uuid("chart", "x")) == f"x_{asset_uuid('chart', 'x')[:8]}.yaml"
    assert dump({"b": 1, "a": "é"}) == "b: 1\na: é\n"
    with pytest.raises(AssetError, match="known: campaign-overview, pipeline-operator"):
        Assets.read().dashboard("nothing")
