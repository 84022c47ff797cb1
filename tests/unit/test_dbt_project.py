"""The dbt project keeps its own rules: names, layers, engines, documentation, contract."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from herald.contract.references import REFERENCES
from herald.contract.schemas import clickhouse_columns, event_fields, reference_fields
from herald.metrics.counts import COUNTS
from herald.metrics.registry import METRICS
from herald.settings import ROOT, load_settings
from herald.warehouse.dbt import PROJECT, dbt_environment, target_dir

MODELS = PROJECT / "models"
NAMES = {
    "staging": r"stg_[a-z]+__[a-z_]+",
    "intermediate": r"int_[a-z]+__[a-z_]+",
    "marts": r"(fct|dim|rpt)_[a-z_]+",
}
SQL_FILES = sorted(MODELS.rglob("*.sql"))
RATIOS_BY_OTHER_NAMES = {"roi", "revenue_per_recipient", "cost_per_conversion"}


def _documents(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for folder in (MODELS, PROJECT / "snapshots", PROJECT / "seeds"):
        for path in sorted(folder.rglob("*.yml")):
            found += yaml.safe_load(path.read_text()).get(kind, [])
    return found


DOCUMENTED = {entry["name"]: entry for entry in _documents("models")}
EVERYTHING = [entry for kind in ("models", "snapshots", "seeds") for entry in _documents(kind)]
TEXTS = dict(
    re.findall(r"{% docs (\w+) %}\n(.+?)\n{% enddocs %}", (MODELS / "columns.md").read_text(), re.S)
)
SOURCES = {
    (source["name"], table["name"]): table
    for source in _documents("sources")
    for table in source["tables"]
}


def _layer(path: Path) -> str:
    return path.relative_to(MODELS).parts[0]


def _config(path: Path) -> str:
    found = re.search(r"{{ config\((.*?)\n?\) }}", path.read_text(), re.S)
    assert found, f"{path.name}: no config block"
    return found.group(1)


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda p: p.stem)
class TestEveryModel:
    def test_name_and_grain_are_stated(self, path: Path) -> None:
        assert re.fullmatch(NAMES[_layer(path)], path.stem)
        assert path.read_text().startswith("-- grain: ")

    def test_engine_order_and_partition_are_explicit_when_it_is_a_table(self, path: Path) -> None:
        config = _config(path)
        if "materialized='view'" in config:
            assert "engine" not in config
            return
        for name in ("materialized=", "engine=", "order_by=", "partition_by="):
            assert name in config, f"{path.name}: config has no {name}"
        if "materialized='incremental'" in config:
            assert "incremental_strategy='delete+insert'" in config
            assert "unique_key=" in config

    def test_marts_read_no_staging_and_only_operator_views_read_sources(self, path: Path) -> None:
        text = path.read_text()
        refs = re.findall(r"ref\('(\w+)'\)", text)
        if _layer(path) == "marts":
            assert not [r for r in refs if r.startswith(("stg_", "bot_"))]
            assert "source(" not in text or path.stem.startswith("rpt_")
        elif _layer(path) == "intermediate":
            assert "source(" not in text
            assert not [r for r in refs if r.startswith(("fct_", "dim_", "rpt_"))]
        else:
            assert not [r for r in refs if not r.startswith("bot_")]

    def test_it_is_documented_with_owner_and_a_test_of_its_grain(self, path: Path) -> None:
        entry = DOCUMENTED[path.stem]
        meta = entry["config"]["meta"]
        assert entry["description"].strip()
        assert meta["owner"]
        head = path.read_text().replace("\n-- x ", " x ")  # a long grain goes on in the next line
        assert head.startswith(f"-- grain: {' x '.join(meta['grain'])}\n")
        grains = [
            test["unique_grain"]["arguments"]["columns"]
            for test in entry["data_tests"]
            if isinstance(test, dict) and "unique_grain" in test
        ]
        assert grains == [meta["grain"]]


@pytest.mark.parametrize("entry", EVERYTHING, ids=lambda e: e["name"])
def test_columns_are_described_and_named_by_the_rules(entry: dict[str, Any]) -> None:
    assert entry["columns"], entry["name"]
    for column in entry["columns"]:
        name, kind = column["name"], column["data_type"]
        text = column["description"]
        block = re.fullmatch(r"{{ doc\('(\w+)'\) }}", text)
        assert TEXTS[block.group(1)].strip() if block else text.strip(), name
        base = re.sub(r"^(Nullable|LowCardinality)\((.*)\)$", r"\2", kind)
        if base.startswith("DateTime"):
            assert name.endswith(("_at", "_from", "_to")), name
        elif base == "Date":
            assert name == "date" or name.endswith("_date"), name
        elif base == "Bool":
            assert name.startswith(("is_", "has_")), name
        elif kind == "Nullable(Float64)":
            assert name.endswith("_rate") or name in RATIOS_BY_OTHER_NAMES, name


def test_only_models_that_exist_are_documented() -> None:
    assert {path.stem for path in SQL_FILES} == set(DOCUMENTED)


def test_every_text_is_used_by_a_column() -> None:
    used = {
        found
        for entry in EVERYTHING
        for column in entry["columns"]
        for found in re.findall(r"doc\('(\w+)'\)", column["description"])
    }
    assert used == set(TEXTS)


def test_sources_list_the_columns_of_the_contract() -> None:
    expected = {("raw", "events"): clickhouse_columns(event_fields())} | {
        ("raw", model.table): clickhouse_columns(reference_fields(model)) for model in REFERENCES
    }
    for key, columns in expected.items():
        listed = {c["name"]: c["data_type"] for c in SOURCES[key]["columns"]}
        assert listed == columns, key


def test_sources_list_the_columns_of_the_migrations() -> None:
    ddl = "\n".join(
        path.read_text() for path in sorted((ROOT / "infra/clickhouse/migrations").glob("*.sql"))
    )
    for (database, table), source in SOURCES.items():
        if database == "system":  # the server's own
            continue
        body = re.search(rf"CREATE TABLE {database}\.{table}\n\((.*?)\n\)\n", ddl, re.S)
        assert body, f"{database}.{table}: no migration creates it"
        declared = dict(re.findall(r"^    `(\w+)` (.+?)(?: CODEC\(.*\))?,?$", body.group(1), re.M))
        listed = {c["name"]: c["data_type"] for c in source["columns"]}
        assert listed == declared, f"{database}.{table}"
        assert source["description"]
        assert source["meta"]["owner"]
        assert all(c["description"] for c in source["columns"])


def test_counts_of_the_hourly_marts_are_those_of_the_registry() -> None:
    text = (PROJECT / "macros" / "counts.sql").read_text()
    listed, flags = (
        ast.literal_eval(found) for found in re.findall(r"{{ return\((.*?)\) }}", text, re.S)
    )
    expected = {
        column
        for count in COUNTS.values()
        for column in (count.column("all"), count.column("human"), count.column("machine"))
        if column not in ("0", "revenue", "cost", "unique_recipients")
    }
    assert set(listed) == expected
    for count in COUNTS.values():
        if count.name in flags:
            assert flags[count.name] == count.message_expression("all")


def test_performance_has_every_ratio_that_its_grain_allows() -> None:
    columns = {c["name"] for c in DOCUMENTED["fct_campaign_performance"]["columns"]}
    # rates of one channel are read from the hourly marts
    of_one_channel = {"total_open_rate", "sms_confirmed_rate", "sms_rejected_rate", "read_rate"}
    ratios = {name for name, metric in METRICS.items() if metric.denominator}
    assert ratios - of_one_channel <= columns


def test_models_with_rules_have_unit_tests() -> None:
    tested = {test["model"] for test in _documents("unit_tests")}
    assert tested >= {
        "stg_raw__events", "int_messages__roll_up", "int_messages__influence", "fct_messages",
        "fct_engagement_hourly", "fct_activity_hourly", "fct_abort_funnel", "dim_campaigns",
    }  # fmt: skip
    assert all(test["description"] for test in _documents("unit_tests"))


def test_exposures_depend_on_marts_only() -> None:
    exposures = _documents("exposures")
    assert len(exposures) >= 2
    for exposure in exposures:
        for reference in exposure["depends_on"]:
            found = re.fullmatch(r"ref\('((?:fct|dim|rpt)_\w+)'\)", reference)
            assert found, reference
            assert found.group(1) in DOCUMENTED


def test_usage_statistics_are_off() -> None:
    project = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
    assert project["flags"]["send_anonymous_usage_stats"] is False


def test_profile_has_no_default_for_a_secret() -> None:
    text = (PROJECT / "profiles.yml").read_text()
    assert "{{ env_var('HERALD_WAREHOUSE__PASSWORD') }}" in text
    assert yaml.safe_load(text)["herald"]["outputs"]["warehouse"]["threads"] == 2


def test_environment_names_warehouse_and_state_when_settings_say_so(tmp_path: Path) -> None:
    settings = load_settings(
        environment="test",
        state_dir=tmp_path,
        warehouse={"host": "10.0.0.9", "port": 8443, "secure": True, "password": str(tmp_path)},
    )
    environment = dbt_environment(settings)
    assert environment["HERALD_WAREHOUSE__HOST"] == "10.0.0.9"
    assert environment["HERALD_WAREHOUSE__PORT"] == "8443"
    assert environment["HERALD_WAREHOUSE__SECURE"] == "true"
    assert environment["HERALD_WAREHOUSE__PASSWORD"] == str(tmp_path)
    assert environment["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"
    assert Path(environment["DBT_TARGET_PATH"]) == target_dir(settings)
    assert target_dir(settings).is_relative_to(tmp_path)
