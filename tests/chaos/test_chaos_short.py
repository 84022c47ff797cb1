"""A short seeded selection of `make chaos`, on a platform of its own: 0 lost, 0 doubled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herald.chaos.fuzz import fuzz_on
from herald.chaos.rig import Rig, own_settings
from herald.chaos.run import Blow, Chaos
from herald.chaos.scenarios import all_scenarios
from herald.cli.main import build_app

SEED = 7


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    settings = own_settings(tmp_path_factory.mktemp("chaos"))
    with Rig(settings, rate=300, seed=SEED, limits_disk=False) as rig:
        rig.learn_steady()
        yield rig


@pytest.fixture(scope="module")
def chaos(rig: Rig) -> Chaos:
    return Chaos(rig, SEED, print)


def strike(chaos: Chaos, name: str) -> Blow:
    [scenario] = [s for s in all_scenarios() if s.name == name]
    blow = chaos.strike(scenario)
    assert (blow.lost, blow.duplicated, blow.rollup_difference) == (0, 0, 0), blow
    return blow


def test_command_leaves_its_record_and_the_control_shows_duplicates_when_run(
    tmp_path: Path,
) -> None:
    path = tmp_path / "chaos.json"
    arguments = ["chaos", "-n", "1", "--rate", "300", "--only", "valkey", "--output", str(path)]

    done = CliRunner().invoke(build_app(), arguments)

    assert done.exit_code == 0, done.output
    record = json.loads(path.read_text())
    assert [(k["victim"], k["moment"]) for k in record["kills"]] == [("valkey", "random")]
    assert record["summary"] | {"control_duplicates": 0} == {
        "kills": 1,
        "faults": 0,
        "lost": 0,
        "duplicated": 0,
        "rollup_difference": 0,
        "control_duplicates": 0,
    }
    assert record["summary"]["control_duplicates"] > 0  # or the harness would find nothing


def test_command_names_the_scenarios_when_asked_for_another() -> None:
    done = CliRunner().invoke(build_app(), ["chaos", "--only", "moon"])
    assert done.exit_code == 1
    assert "no scenario 'moon'; there are: driver/before_plan" in done.output


@pytest.mark.parametrize(
    "name",
    [
        "driver/after_insert",
        "worker/before_ledger",
        "warehouse/during_rollup",
        "kafka/random",
    ],
)
def test_nothing_is_lost_or_doubled_when_a_part_is_killed(chaos: Chaos, name: str) -> None:
    assert strike(chaos, name).is_kill


@pytest.mark.parametrize(
    "name",
    [
        "topic/partitions_added",
        "warehouse/answer_lost",
        "checkpoint/torn",
        "second_landing/elsewhere",
    ],
)
def test_nothing_is_lost_or_doubled_when_something_goes_wrong(chaos: Chaos, name: str) -> None:
    assert not strike(chaos, name).is_kill


def test_every_event_lands_or_is_a_dead_letter_when_one_in_a_hundred_is_mutated(rig: Rig) -> None:
    rig.producer.pause()
    found = fuzz_on(rig, 20_000, SEED, print)
    assert (found.events, found.mutated) == (20_000, 200)
    assert (found.unaccounted, found.restarts) == (0, 0)
    assert found.landed + found.dead_lettered == 20_000
    assert len(found.classes) > 4
