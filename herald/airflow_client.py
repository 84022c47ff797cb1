"""Talks to Airflow's REST API: unpause, trigger, wait, and why a run failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from herald.settings import Airflow

FINAL_STATES = frozenset({"success", "failed"})
_FAILED_TASKS = frozenset({"failed", "upstream_failed"})


class AirflowClientError(Exception):
    """Airflow does not answer, refuses, or a run did not end well; the message says which."""


@dataclass(frozen=True, slots=True)
class DagRun:
    """One run. `seconds` is from start to end, or to now while it runs; None before it starts."""

    dag_id: str
    run_id: str
    state: str
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def seconds(self) -> float | None:
        """Duration in seconds."""
        if self.started_at is None:
            return None
        return round(((self.finished_at or datetime.now(UTC)) - self.started_at).total_seconds(), 3)

    @property
    def is_final(self) -> bool:
        """Whether it is over."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class TaskState:
    """One task of a run; `state` is '' before it is scheduled."""

    task_id: str
    state: str
    try_number: int
    seconds: float | None


Progress = Callable[[DagRun, list[TaskState]], None]
"""Called when the run or one of its tasks changed its state."""


class AirflowClient:
    """A logged-in client.

    Args:
        airflow: where it is, and the administrator's login.
        timeout_seconds: longest wait for one answer.
    """

    def __init__(self, airflow: Airflow, *, timeout_seconds: float = 30.0) -> None:
        self._airflow = airflow
        self._http = httpx.Client(base_url=airflow.url, timeout=timeout_seconds)
        self._has_token = False

    def __enter__(self) -> AirflowClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def dag_ids(self) -> list[str]:
        """Ids of every DAG that the DAG processor has parsed."""
        return sorted(d["dag_id"] for d in self._call("GET", "/api/v2/dags?limit=200")["dags"])

    def import_errors(self) -> dict[str, str]:
        """DAG file to traceback, of files that cannot be parsed."""
        found = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return {e["filename"]: e["stack_trace"] for e in found}

    def wait_for_dags(self, dag_ids: set[str], *, timeout_seconds: float = 120.0) -> None:
        """Wait until these DAGs are parsed.

        Raises:
            AirflowClientError: they are not in time; names the missing ones and import errors.
        """
        deadline = time.monotonic() + timeout_seconds
        while missing := dag_ids - set(self.dag_ids()):
            if time.monotonic() > deadline:
                raise AirflowClientError(
                    f"no DAG {', '.join(sorted(missing))} after {timeout_seconds:.0f} s; "
                    f"import errors: {self.import_errors() or 'none'}"
                )
            time.sleep(0.5)

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG."""
        self._call(
            "PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", json={"is_paused": False}
        )

    def pause(self, dag_id: str) -> None:
        """Keep the scheduler from starting new runs of the DAG."""
        self._call(
            "PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", json={"is_paused": True}
        )

    def trigger(
        self, dag_id: str, *, conf: Mapping[str, Any] | None = None, run_id: str | None = None
    ) -> DagRun:
        """Start a run; a paused DAG is unpaused first, or the run would wait for ever.

        Raises:
            AirflowClientError: unknown DAG, a run of that id exists, or params are wrong.
        """
        self.unpause(dag_id)
        # the key must be there, and null, for a run that belongs to no interval
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        return _run(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body))

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """One run."""
        return _run(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, dag_id: str = "~", *, limit: int = 20) -> list[DagRun]:
        """The latest runs of a DAG, of all DAGs by default, newest first."""
        path = f"/api/v2/dags/{dag_id}/dagRuns?limit={limit}&order_by=-run_after"
        return [_run(r) for r in self._call("GET", path)["dag_runs"]]

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Tasks of a run, in order of their start."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?order_by=start_date"
        return [
            TaskState(t["task_id"], t["state"] or "", t["try_number"], t["duration"])
            for t in self._call("GET", path)["task_instances"]
        ]

    def log_tail(self, dag_id: str, run_id: str, task: TaskState, *, lines: int = 20) -> list[str]:
        """Last lines that a task logged in its last try."""
        path = (
            f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}"
            f"/logs/{max(task.try_number, 1)}?full_content=true"
        )
        content = self._call("GET", path)["content"]
        events = [c if isinstance(c, str) else str(c.get("event", "")) for c in content]
        return [line for event in events for line in event.splitlines()][-lines:]

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout_seconds: float = 900.0,
        poll_seconds: float = 1.0,
        progress: Progress | None = None,
    ) -> DagRun:
        """Wait until a run is over and return it, whether it succeeded or failed.

        Raises:
            AirflowClientError: it is not over in time; names the state of each task.
        """
        deadline = time.monotonic() + timeout_seconds
        seen: Any = None
        while True:
            run = self.run(dag_id, run_id)
            if progress is not None:
                tasks = self.tasks(dag_id, run_id)
                now = (run.state, [(t.task_id, t.state) for t in tasks])
                if now != seen:
                    seen = now
                    progress(run, tasks)
            if run.is_final:
                return run
            if time.monotonic() > deadline:
                states = ", ".join(
                    f"{t.task_id}={t.state or 'none'}" for t in self.tasks(dag_id, run_id)
                )
                raise AirflowClientError(
                    f"{dag_id} {run_id} is {run.state} after {timeout_seconds:.0f} s: {states}"
                )
            time.sleep(poll_seconds)

    def explain_failure(self, run: DagRun, *, lines: int = 20) -> str:
        """Why a run failed: each failed task with the tail of its log, and what was not run."""
        parts = [f"{run.dag_id} {run.run_id} {run.state}"]
        for task in self.tasks(run.dag_id, run.run_id):
            if task.state == "failed":
                parts.append(f"task {task.task_id} failed in try {task.try_number}; its log ends:")
                parts += [
                    f"  {ln}" for ln in self.log_tail(run.dag_id, run.run_id, task, lines=lines)
                ]
            elif task.state in _FAILED_TASKS:
                parts.append(f"task {task.task_id} was not run")
        return "\n".join(parts)

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        try:
            if not self._has_token:
                self._log_in()
            answer = self._http.request(method, path, **kwargs)
            if answer.status_code == httpx.codes.UNAUTHORIZED:  # tokens expire after a day
                self._log_in()
                answer = self._http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise AirflowClientError(
                f"Airflow at {self._airflow.url} does not answer: {error} (is it up? "
                "`herald status`)"
            ) from error
        if answer.is_error:
            raise AirflowClientError(
                f"Airflow refuses {method} {path} with {answer.status_code}: {_detail(answer)}"
            )
        return answer.json()

    def _log_in(self) -> None:
        answer = self._http.post(
            "/auth/token",
            json={
                "username": self._airflow.user,
                "password": self._airflow.password.get_secret_value(),
            },
        )
        if answer.is_error:
            raise AirflowClientError(
                f"Airflow at {self._airflow.url} refuses the login of {self._airflow.user!r} with "
                f"{answer.status_code} (HERALD_AIRFLOW__PASSWORD): {_detail(answer)}"
            )
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        self._has_token = True


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]


def _run(record: Mapping[str, Any]) -> DagRun:
    return DagRun(
        dag_id=record["dag_id"],
        run_id=record["dag_run_id"],
        state=record["state"],
        started_at=_time(record["start_date"]),
        finished_at=_time(record["end_date"]),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
