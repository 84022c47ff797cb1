"""A short seeded selection of `make chaos`, on a platform of its own: 0 lost, 0 doubled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from herald.chaos.control import control_duplicates
from herald.chaos.fuzz import fuzz_on
from herald.chaos.rig import Rig, own_settings
from herald.chaos.run import Blow, Chaos
from herald.chaos.scenarios import all_scenarios

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


def test_duplicates_are_found_when_the_sink_is_at_least_once(rig: Rig) -> None:
    assert control_duplicates(rig) > 0


@pytest.mark.parametrize(
    "name",
    [
        "driver/after_insert",
        "worker/before_ledger",
        "warehouse/during_rollup",
        "kafka/random",
        "valkey/random",
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
