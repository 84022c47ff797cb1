"""The demo: the whole platform, started, loaded, hurt, modelled, opened and reconciled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from herald.cli.demo.counts import (
    Reconciliation,
    check_counts,
    dbt_test_counts,
    landed_by_source,
    mart_rows,
    reconcile,
    wait_landed,
)
from herald.cli.demo.faults import VICTIMS, kill_and_recover
from herald.cli.demo.shell import run_herald
from herald.records import now, read_record, write_record
from herald.settings import ROOT, Settings
from herald.warehouse.client import connect
from infra.local.platform import Platform

DAGS = ("marts__build__hourly", "quality__check__hourly", "quality__report__daily")
"""Run in turn; the first one builds what the others look at."""

FIRST_SEED = 7
PROGRESS_EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demo run does.

    events: simulated events of the first load.
    open_bandit: most real impressions to import; 0 for none.
    faults: kill the landing job, the warehouse and the broker, once each.
    fault_events: simulated events produced around each kill.
    dashboards: open them in a browser.
    """

    events: int = 2_000_000
    open_bandit: int = 120_000
    faults: bool = True
    fault_events: int = 150_000
    dashboards: bool = True


@dataclass
class Demo:
    """One run; `record` grows with every step and is what `var/demo.json` will hold."""

    settings: Settings
    plan: Plan
    console: Console
    started_at: datetime = field(default_factory=now)
    seconds: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """Where the record goes."""
        return self.settings.state_dir / "demo.json"

    def run(self) -> dict[str, Any]:
        """All steps in order. The record is written at the end, also of a run that failed."""
        self._take_install_seconds()
        platform = Platform(self.settings, progress=lambda line: self.console.print(line))
        self.settings = platform.settings  # with the generated secrets
        try:
            with self._step("start", "starting the platform"):
                platform.up()
            with self._step("produce", "producing events"):
                self._produce()
            with self._step("land", "landing events"):
                wait_landed(self.settings, on_progress=self._progress())
                if self.plan.faults:
                    self._hurt(platform)
            with self._step("dags", "running the DAGs on the Airflow scheduler"):
                self._run_dags()
            with self._step("dashboards", "importing and opening the dashboards"):
                self._open_dashboards()
            self._say("reading one number on every surface")
            self.record["one_number"] = self._one_number()
            self._count()
            self.record["addresses"] = addresses(self.settings)
        finally:
            self.seconds["total"] = round(
                time.monotonic() - self.began + self.seconds.get("install", 0.0), 1
            )
            self.record["seconds"] = self.seconds
            write_record(self.path, command="make demo", started_at=self.started_at, **self.record)
        return self.record

    # -- steps ------------------------------------------------------------------------------

    def _take_install_seconds(self) -> None:
        setup = read_record(ROOT / "var" / "setup.json")
        if "seconds" in setup:
            self.seconds["install"] = setup["seconds"]

    def _produce(self) -> None:
        done = landed_by_source(connect(self.settings.warehouse))
        if done.get("simulator", 0) >= self.plan.events * 0.9:
            self._say("simulated events are here from an earlier run")
        elif self.plan.events:
            run_herald("simulate", "--events", str(self.plan.events), "--seed", str(FIRST_SEED))
        if self.plan.open_bandit and not done.get("open_bandit"):
            run_herald("import", "open-bandit", "--limit", str(self.plan.open_bandit))
        hillstrom = self.settings.data_dir and self.settings.data_dir / "hillstrom.csv.gz"
        if hillstrom and hillstrom.is_file() and not done.get("hillstrom"):
            run_herald("import", "hillstrom", str(hillstrom))

    def _hurt(self, platform: Platform) -> None:
        earlier = read_record(self.path).get("faults", [])
        if len(earlier) == len(VICTIMS) and reconcile(self.settings).is_settled:
            self._say("faults were shown in an earlier run")
            self.record["faults"] = earlier
            return
        self.record["faults"] = []
        for number, victim in enumerate(VICTIMS, start=1):
            self._say(f"killing {victim} in the middle of a load")
            fault = kill_and_recover(
                self.settings,
                victim,
                platform.kill,
                seed=FIRST_SEED + number,
                events=self.plan.fault_events,
                on_progress=self._progress(),
            )
            self._say(
                f"{victim}: lost {fault['lost']}, duplicated {fault['duplicated']}, "
                f"recovered in {fault['recovered_seconds']} s"
            )
            self.record["faults"].append(fault)

    def _run_dags(self) -> None:
        from herald.airflow_client import AirflowClient, DagRun, TaskState

        def tell(run: DagRun, tasks: list[TaskState]) -> None:
            states = ", ".join(f"{task.task_id} {task.state or 'waiting'}" for task in tasks)
            self._say(f"{run.dag_id} {run.state}: {states}")

        self.record["dag_runs"] = []
        with AirflowClient(self.settings.airflow) as airflow:
            airflow.wait_for_dags(set(DAGS))
            for dag_id in DAGS:
                run_id = f"demo__{now():%Y-%m-%dT%H-%M-%S}"
                airflow.trigger(dag_id, run_id=run_id)
                finished = airflow.wait(dag_id, run_id, progress=tell)
                if finished.state != "success":
                    self._say(airflow.explain_failure(finished))
                self.record["dag_runs"].append(
                    {
                        "dag_id": dag_id,
                        "run_id": run_id,
                        "state": finished.state,
                        "seconds": finished.seconds,
                    }
                )

    def _open_dashboards(self) -> None:
        from herald.dashboards import check_dashboards, import_assets

        import_assets(self.settings)
        if self.plan.dashboards:
            shots = self.settings.state_dir / "screenshots"
            self.record["dashboards"] = check_dashboards(self.settings, shots)

    def _one_number(self) -> list[dict[str, Any]]:
        from herald.dashboards import metric_value
        from herald.engine.reconcile import default_cases, one_number

        return one_number(self.settings, default_cases(), superset=metric_value)

    def _count(self) -> None:
        client = connect(self.settings.warehouse)
        counts = reconcile(self.settings, client)
        self.record["events"] = asdict(counts) | {"by_source": landed_by_source(client)}
        self.record["marts"] = mart_rows(client)
        self.record["checks"] = check_counts(client)
        if tests := dbt_test_counts(self.settings.state_dir):
            self.record["dbt_tests"] = tests

    # -- what is seen meanwhile -------------------------------------------------------------

    @contextmanager
    def _step(self, name: str, title: str) -> Iterator[None]:
        self.console.rule(title, align="left")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        self._say(f"done in {self.seconds[name]:.0f} s")

    def _say(self, line: str) -> None:
        self.console.print(f"[{time.monotonic() - self.began:6.1f} s] {line}", highlight=False)

    def _progress(self) -> Callable[[Reconciliation], None]:
        told = 0.0

        def tell(counts: Reconciliation) -> None:
            nonlocal told
            if time.monotonic() - told > PROGRESS_EVERY_SECONDS or counts.lost <= 0:
                told = time.monotonic()
                done = counts.landed + counts.dead_lettered
                self._say(f"{done:,} of {counts.produced:,} landed, {counts.lost:,} to go")

        return tell


def verdict(record: dict[str, Any]) -> list[str]:
    """What is wrong with a finished run, in plain words; empty when all is as it must be."""
    wrong = []
    events = record["events"]
    if events["landed"] + events["dead_lettered"] != events["produced"]:
        wrong.append("produced is not landed + dead-lettered")
    if events["duplicates"]:
        wrong.append(f"{events['duplicates']} duplicates")
    wrong += [
        f"killing {fault['killed']}: lost {fault['lost']}, duplicated {fault['duplicated']}"
        for fault in record.get("faults", [])
        if fault["lost"] or fault["duplicated"]
    ]
    wrong += [
        f"{run['dag_id']} ended {run['state']}"
        for run in record["dag_runs"]
        if run["state"] != "success"
    ]
    if record["checks"]["failed"]:
        wrong.append(f"{record['checks']['failed']} failed checks")
    wrong += [
        f"dashboard {board['slug']}: {error}"
        for board in record.get("dashboards", [])
        for error in board["errors"]
    ]
    for case in record["one_number"]:
        values = {surface: case[surface] for surface in ("raw", "dbt", "api", "superset")}
        if len(set(values.values())) != 1:
            wrong.append(f"{case['metric']} {case['filters']} differs: {values}")
    return wrong


PAGES = ("airflow", "superset", "mlflow", "api")


def addresses(settings: Settings) -> dict[str, str]:
    """Where the pages are."""
    return {name: address for name, address, _, _ in logins(settings)}


def logins(settings: Settings) -> list[tuple[str, str, str, str]]:
    """Page, address, user and password of each page, for the owner's own terminal only."""
    pages = [(name, getattr(settings, name)) for name in PAGES]
    rows = [
        (name, page.url, page.user, page.password.get_secret_value())
        for name, page in pages
        if page.enabled
    ]
    if settings.api.enabled:  # served by the API, signed in to with its token
        token = settings.api.password.get_secret_value()
        rows.append(("live", f"{settings.api.url}/live", "", token))
    return rows
