"""The compatibility check bites: every kind of broken promise is found, nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typer.testing import CliRunner

from herald.cli.main import build_app
from herald.contract import compatibility
from herald.contract.columns import Column, low
from herald.contract.compatibility import (
    RELEASED,
    Change,
    ContractError,
    check,
    check_examples,
    compare,
    describe,
    describe_record,
    release,
    released,
)
from herald.contract.evolution import migration, promoted

Described = dict[str, Any]


def test_contract_keeps_every_promise_when_compared_with_what_was_released() -> None:
    current, versions = describe(), released()
    assert check(current, versions) == []
    assert check_examples() == []
    assert current["version"] in versions, "run `herald contract release`"
    assert len((RELEASED / "1.0.ndjson").read_text(encoding="utf-8").splitlines()) > 20


STEPS = {"maxLength": -1, "minLength": 1, "minimum": 1, "maximum": -1}


def broken_fields(field: Described) -> Iterator[tuple[str, Described]]:
    """A described field with one of its promises broken, for each of them."""
    yield "column", {**field, "column": "Odd"}
    if not field["required"]:
        yield "required", {**field, "required": True}
        yield "default", {**field, "default": "other"}
    for index, option in enumerate(field["accepts"]):

        def instead(new: Described, index: int = index) -> Described:
            accepts = [*field["accepts"]]
            accepts[index] = new
            return {**field, "accepts": accepts}

        yield f"type {index}", instead({**option, "type": "integer", "format": "odd"})
        for rule in STEPS.keys() & option.keys():
            yield rule, instead({**option, rule: option[rule] + STEPS[rule]})
        if option.get("type") == "string" and "pattern" not in option:
            yield "pattern", instead({**option, "pattern": "^[a-z]$"})
        if "enum" in option:
            yield "enum", instead({**option, "enum": option["enum"][1:]})


def mutants() -> Iterator[tuple[str, Described]]:
    """The contract with one promise broken, for each of them."""
    base = describe() | {"version": "9.0"}
    for record, found in base["records"].items():

        def with_fields(new: Described, record: str = record) -> Described:
            return base | {"records": base["records"] | {record: new}}

        for name, field in found.items():
            yield (
                f"{record}.{name} removed",
                with_fields({n: f for n, f in found.items() if n != name}),
            )
            for what, broken in broken_fields(field):
                if (name, what) != ("schema_version", "default"):
                    yield f"{record}.{name} {what}", with_fields(found | {name: broken})
        if record != "landed":
            fresh = found["tenant_id"] | {"required": True}
            yield f"{record} required field", with_fields(found | {"fresh": fresh})
        others = {n: f for n, f in base["records"].items() if n != record}
        yield f"{record} removed", base | {"records": others}
    for name, values in base["lists"].items():
        yield f"{name} shortened", base | {"lists": base["lists"] | {name: values[1:]}}


def test_check_finds_every_broken_promise_when_the_contract_is_mutated() -> None:
    versions = released()
    survivors, tried = [], 0
    for name, mutant in mutants():
        tried += 1
        if not any(change.kind == "incompatible" for _, change in check(mutant, versions)):
            survivors.append(name)
    assert survivors == []
    assert tried > 400


def wider(d: Described) -> None:
    event = d["records"]["event"]
    event["fresh"] = {**event["city"], "column": "LowCardinality(String)"}
    event["city"]["accepts"][0]["maxLength"] = 512
    event["attempt"]["accepts"][0]["maximum"] = 65_535
    event["country"]["accepts"][0].pop("pattern")
    event["locale"]["accepts"].append({"type": "null"})
    d["records"]["orders"] = {}
    d["lists"]["abort_reasons"].append("mood")


def test_check_lets_additive_changes_pass_when_the_version_is_new() -> None:
    newer = describe()
    wider(newer)
    newer["version"] = "1.1"
    changes = compare(describe(), newer)
    assert len(changes) == 7
    assert {c.kind for c in changes} == {"additive"}
    assert check(newer, released()) == []


def test_check_asks_for_a_new_version_when_the_released_one_grew() -> None:
    newer = describe()
    wider(newer)
    problems = check(newer, released())
    assert len(problems) == 7
    assert all("raise CONTRACT_VERSION" in change.what for _, change in problems)
    older = describe() | {"version": "0.9"}
    assert [change.where for _, change in check(older, released())] == ["version"]


class Old(BaseModel):
    a: Annotated[str, low("who")] = Field("", description="A.")
    reasons: Annotated[
        tuple[Annotated[str, Field(max_length=9)], ...],
        Column("Array(String)", "list<string>", "who"),
    ] = ()


class New(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: Annotated[str, Field(max_length=9), low("who")] = Field("", description="Another text.")
    reasons: Annotated[
        tuple[Annotated[str, Field(max_length=8)], ...],
        Column("Array(String)", "list<string>", "who"),
    ] = ()


def test_description_follows_the_models_when_they_are_narrowed() -> None:
    def of(model: type[BaseModel]) -> Described:
        return {"records": {"r": describe_record(model)}, "lists": {}}

    assert compare(of(Old), of(Old)) == []
    assert compare(of(Old), of(New)) == [
        Change("incompatible", "r.a", "maxLength changed from None to 9"),
        Change("incompatible", "r.reasons[]", "maxLength changed from 9 to 8"),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RELEASED, tmp_path / "released"))


def test_examples_bite_when_a_rule_that_no_description_shows_is_new(folder: Path) -> None:
    lines = (folder / "1.0.ndjson").read_text(encoding="utf-8").splitlines()
    flown = json.loads(lines[0]) | {"event_type": "email.flown"}
    (folder / "1.0.ndjson").write_text("\n".join([lines[0], json.dumps(flown)]), encoding="utf-8")
    [(version, change)] = check_examples(folder)
    assert version == "1.0"
    assert change.where == "event.event_type"
    assert "line 2 of 1.0.ndjson" in change.what


def test_release_writes_the_next_version_once_when_it_is_compatible(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release(folder) is None
    monkeypatch.setattr(compatibility, "CONTRACT_VERSION", "1.1")
    with pytest.raises(ContractError, match=r"1\.1\.ndjson is missing"):
        release(folder)
    shutil.copy(folder / "1.0.ndjson", folder / "1.1.ndjson")
    written = release(folder)
    assert written is not None
    assert written.name == "1.1.json"
    assert list(released(folder)) == ["1.0", "1.1"]
    monkeypatch.setattr(compatibility, "AbortReason", ["expired"])
    monkeypatch.setattr(compatibility, "CONTRACT_VERSION", "1.2")
    with pytest.raises(ContractError, match="abort_reasons: 'frequency_capped' was removed"):
        release(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("2.0.json", '{"version": "1.9"}', "says it is"), ("new.json", "{}", "is no version")],
)
def test_released_refuses_when_a_file_is_not_what_its_name_says(
    folder: Path, name: str, content: str, message: str
) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ContractError, match=message):
        released(folder)
    with pytest.raises(ContractError, match="no released contract"):
        released(folder / "none")


def test_migration_adds_each_new_column_in_its_place_when_fields_are_new() -> None:
    old, new = describe(), describe()
    event: dict[str, Any] = new["records"]["event"]
    names = list(event)
    fresh = {"fresh": event["city"], "paid_at": event["ingested_at"], "props": event["revenue"]}
    new["records"]["event"] = {n: event[n] for n in names[:3]} | fresh | event
    new["records"]["users"]["tier"] = new["records"]["users"]["locale"]
    assert migration(old, old) == ""
    sql = migration(old, new).splitlines()
    assert sql[1] == (
        "ALTER TABLE raw.events ADD COLUMN `fresh` LowCardinality(String) DEFAULT "
        "JSONExtract(properties, 'fresh', 'LowCardinality(String)') AFTER `schema_version`;"
    )
    assert sql[2] == "ALTER TABLE raw.events MATERIALIZE COLUMN `fresh`;"
    assert "parseDateTime64BestEffortOrNull" in sql[3]
    assert sql[3].endswith("CODEC(DoubleDelta, ZSTD(1)) AFTER `fresh`;")
    assert sql[-1] == (
        "ALTER TABLE raw.users ADD COLUMN `tier` LowCardinality(String) AFTER `is_sms_subscribed`;"
    )
    assert promoted("at", "DateTime64(3, 'UTC')").startswith("ifNull(parse")


def test_command_says_the_verdict_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, app = CliRunner(), build_app()
    good = runner.invoke(app, ["contract", "check"])
    assert good.exit_code == 0
    assert "contract 1.0 (released) keeps what 1.0 promised" in good.output
    assert "no field is new" in runner.invoke(app, ["contract", "migration"]).output
    assert "released already" in runner.invoke(app, ["contract", "release"]).output
    assert runner.invoke(app, ["contract", "migration", "--since", "7"]).exit_code == 1
    monkeypatch.setattr(compatibility, "AbortReason", ["expired"])
    bad = runner.invoke(app, ["contract", "check", "--json"])
    assert bad.exit_code == 1
    document = json.loads(bad.stdout.splitlines()[0])
    assert document["verdict"] == "incompatible"
    assert document["problems"][0]["where"] == "abort_reasons"
    assert runner.invoke(app, ["contract", "release"]).exit_code == 1
