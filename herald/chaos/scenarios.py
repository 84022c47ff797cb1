"""What is done to the platform: each scenario strikes once and says when."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from herald.chaos.disk import filled, why_not
from herald.chaos.proxy import Fault, Moment, Outcome
from herald.chaos.rig import ChaosError, Rig

STRIKE_SECONDS = 60.0
START_SECONDS = 180.0
CLOCK = Path(__file__).parent / "clock"
EVENTS, LEDGER, PLAN = "raw.events", "raw.landed_ranges", "raw.planned_ranges"

Strike = Callable[[Rig, random.Random], float]
"""Does it, and returns the monotonic time of the blow."""


@dataclass(frozen=True)
class Scenario:
    """One fault: who suffers, when, and how often it is drawn."""

    victim: str
    moment: str
    strike: Strike
    weight: int = 1
    is_kill: bool = True

    @property
    def name(self) -> str:
        """`victim/moment`, as `--only` takes it."""
        return f"{self.victim}/{self.moment}"


def all_scenarios() -> list[Scenario]:
    """Every scenario: kills first, then faults without a kill."""
    kills = [
        Scenario(victim, moment, _kill_at(victim, *where), weight)
        for victim, weight in (("driver", 3), ("worker", 3), ("warehouse", 3), ("kafka", 2))
        for moment, where in _MOMENTS.items()
    ]
    kills += [
        Scenario(victim, "random", _kill_at_random(victim), 3)
        for victim in ("driver", "worker", "warehouse", "kafka", "valkey")
    ]
    return kills + FAULTS


_MOMENTS: dict[str, tuple[str, Moment]] = {
    "before_plan": (PLAN, "before"),
    "after_plan": (PLAN, "after"),
    "before_insert": (EVENTS, "before"),
    "during_rollup": (EVENTS, "during"),
    "after_insert": (EVENTS, "after"),
    "before_ledger": (LEDGER, "before"),
    "after_ledger": (LEDGER, "after"),
}


def _kill_at(victim: str, table: str, moment: Moment) -> Strike:
    # who is killed cannot hear; a broker's death does not concern the warehouse's answer
    outcome: Outcome = "pass" if victim == "kafka" or moment == "during" else "drop"

    def strike(rig: Rig, rng: random.Random) -> float:
        if moment == "during":
            watch = _watcher(rig, victim)
            return _await(rig, Fault(table, moment, watch, outcome))
        skip = rng.randrange(4)  # not always the first insert of a batch

        def act(port: int) -> bool:
            nonlocal skip
            skip -= 1
            return skip < 0 and rig.kill(victim, port)

        return _await(rig, Fault(table, moment, act, outcome))

    return strike


def _watcher(rig: Rig, victim: str) -> Callable[[int], bool]:
    """Kills when a part of a rollup is being written: source rows are there, sums not all."""
    folders = rig.rollup_folders()
    if not folders:
        raise ChaosError("there is no rollup table under live.events_*")

    def act(port: int) -> bool:
        seen = {f: set(_parts(f)) for f in folders}
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            if any(not set(_parts(f)) <= seen[f] for f in folders):
                return rig.kill(victim, port)
            time.sleep(0.0003)
        return False

    return act


def _parts(folder: Path) -> list[str]:
    """Parts being inserted or just inserted, no merges."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return [n for n in names if n.startswith("tmp_insert") or n.endswith("_0")]


def _kill_at_random(victim: str) -> Strike:
    def strike(rig: Rig, rng: random.Random) -> float:
        time.sleep(rng.uniform(0.0, 1.5))
        rig.wait(f"a {victim} to kill", lambda: rig.kill(victim), STRIKE_SECONDS)
        return time.monotonic()

    return strike


def _await(rig: Rig, fault: Fault) -> float:
    rig.proxy.arm(fault)
    try:
        if not fault.fired.wait(STRIKE_SECONDS):
            raise ChaosError(f"no insert into {fault.table or 'any table'} came to strike at")
    finally:
        rig.proxy.disarm()
    return fault.struck_at


# -- faults without a kill ------------------------------------------------------------------


def _answers(moment: Moment, outcome: Outcome, *, status: int = 500, code: int = 241) -> Strike:
    """Several answers in a row are lost or errors, whether or not the rows were written."""

    def strike(rig: Rig, rng: random.Random) -> float:
        times = rng.randint(1, 4)
        table = rng.choice(["", EVENTS, LEDGER, PLAN])
        fault = Fault(table, moment, outcome=outcome, times=times, status=status, code=code)
        rig.proxy.arm(fault)
        try:
            rig.wait("the faults to strike", lambda: fault.struck >= times, STRIKE_SECONDS)
        finally:
            rig.proxy.disarm()
        return fault.struck_at

    return strike


def _slow(rig: Rig, rng: random.Random) -> float:
    fault = Fault("", "after", times=0, delay_seconds=rng.uniform(0.2, 1.0))
    began = time.monotonic()
    rig.proxy.arm(fault)
    time.sleep(rng.uniform(2.0, 5.0))
    rig.proxy.disarm()
    return began


def _pause(service: str) -> Strike:
    def strike(rig: Rig, rng: random.Random) -> float:
        began = time.monotonic()
        with rig.paused(service):
            time.sleep(rng.uniform(2.0, 6.0))
        return began

    return strike


def _checkpoint(damage: Callable[[Path, random.Random], None]) -> Strike:
    """The job is killed at work, and its checkpoint is damaged before it is back."""

    def strike(rig: Rig, rng: random.Random) -> float:
        at = _kill_at("driver", *_MOMENTS[rng.choice(["before_insert", "after_insert"])])(rig, rng)
        damage(rig.settings.state_dir / "landing", rng)
        return at

    return strike


def _delete_checkpoint(folder: Path, _rng: random.Random) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _tear_checkpoint(folder: Path, rng: random.Random) -> None:
    """Cut or empty the newest files, as a power cut leaves them."""
    files = [f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")]
    newest = sorted(files, key=lambda f: f.stat().st_mtime)[-4:]
    for file in rng.sample(newest, k=min(len(newest), rng.randint(1, 3))):
        content = file.read_bytes()
        file.write_bytes(content[: rng.choice([0, len(content) // 2])])


def _lose_checkpoint_files(folder: Path, rng: random.Random) -> None:
    files = [f for f in folder.rglob("*") if f.is_file()]
    for file in rng.sample(files, k=max(1, len(files) // 3)):
        file.unlink()


def _two_landings(*, shares_folder: bool) -> Strike:
    def strike(rig: Rig, rng: random.Random) -> float:
        folder = rig.settings.state_dir
        log = folder / "log" / "second-landing.log"
        log.unlink(missing_ok=True)
        state = folder if shares_folder else folder / "elsewhere"
        with rig.own_landing(state, log) as job:
            _wait_at_work(rig, job, log)
            time.sleep(rng.uniform(3.0, 6.0))
        return time.monotonic()

    return strike


def _wait_at_work(rig: Rig, job: subprocess.Popen[bytes], log: Path) -> None:
    def is_at_work() -> bool:
        text = log.read_bytes()
        if job.poll() is not None:
            end = text[-1_000:].decode(errors="replace")
            raise ChaosError(f"the second landing ended by itself:\n{end}")
        return b"batch landed" in text or b"waits: " in text

    rig.wait("a second landing at work", is_at_work, START_SECONDS)


def _clock_jumps(rig: Rig, rng: random.Random) -> float:
    """The Python processes of a landing see a clock that jumps hours to and fro.

    Planner and workers stamp and judge by it. Events of now are hours in the future of a job whose
    clock is behind: dead letters.
    """
    folder = rig.settings.state_dir
    log, clock = folder / "log" / "shifted-landing.log", folder / "run" / "clock"
    log.unlink(missing_ok=True)
    clock.write_text("0")
    variables = {"PYTHONPATH": str(CLOCK), "CHAOS_CLOCK": str(clock)}
    with rig.without_landing(), rig.own_landing(folder, log, variables) as job:
        _wait_at_work(rig, job, log)
        for hours in rng.sample([-3, 3, -26, 24 * 40, -0.02], k=3):
            draft = clock.with_suffix(".new")
            draft.write_text(str(hours * 3_600))
            draft.replace(clock)
            time.sleep(rng.uniform(2.0, 4.0))
    return time.monotonic()


def _full_disk(rig: Rig, rng: random.Random) -> float:
    """No byte is free for warehouse and checkpoint for some seconds."""
    if rig.disk is None:
        raise ChaosError("no small filesystem could be mounted")
    began = time.monotonic()
    with filled(rig.disk):
        time.sleep(rng.uniform(3.0, 8.0))
    return began


def not_possible(scenario: Scenario, rig: Rig) -> str:
    """Why a scenario cannot run on this machine, '' when it can."""
    if scenario.strike is _full_disk and rig.disk is None:
        return why_not() or "mounting a small filesystem was refused"
    return ""


def _add_partitions(rig: Rig, rng: random.Random) -> float:
    began = time.monotonic()
    rig.add_partitions(rng.randint(1, 2))
    return began


FAULTS = [
    Scenario(victim, moment, strike, 1, is_kill=False)
    for victim, moment, strike in (
        ("warehouse", "error_500_before", _answers("before", "error")),
        ("warehouse", "too_many_parts", _answers("before", "error", code=252)),
        ("warehouse", "plain_500", _answers("before", "error", code=0)),
        ("warehouse", "error_after_success", _answers("after", "error")),
        ("warehouse", "answer_lost", _answers("after", "drop")),
        ("warehouse", "slow", _slow),
        ("warehouse", "frozen", _pause("warehouse")),
        ("kafka", "frozen", _pause("kafka")),
        ("driver", "frozen", _pause("landing")),
        ("checkpoint", "deleted", _checkpoint(_delete_checkpoint)),
        ("checkpoint", "torn", _checkpoint(_tear_checkpoint)),
        ("checkpoint", "files_lost", _checkpoint(_lose_checkpoint_files)),
        ("second_landing", "same_folder", _two_landings(shares_folder=True)),
        ("second_landing", "elsewhere", _two_landings(shares_folder=False)),
        ("topic", "partitions_added", _add_partitions),
        ("warehouse", "full_disk", _full_disk),
        ("clock", "jumps", _clock_jumps),
    )
]
