"""Everything that DAG files share; besides them the only module that imports Airflow and Cosmos.

For the Airflow environment. Nothing here reads settings at import: the DAG processor parses often,
and a wrong setting must fail the task that needs it, not every DAG.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import Asset, AssetWatcher, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from cosmos import ProfileConfig
from cosmos.constants import InvocationMode
from cosmos.operators.local import DbtBuildLocalOperator

from herald.environments import EnvironmentName, env_python
from herald.settings import ROOT, Settings, load_settings
from herald.warehouse.dbt import DBT, PROJECT, dbt_environment

__all__ = [
    "DEFAULT_ARGS",
    "EVENTS_LANDED",
    "MARTS_BUILT",
    "LandedTrigger",
    "RunModule",
    "Tag",
    "dbt_build",
    "env_python",
    "herald_command",
    "quality_gate",
]

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "data-platform",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "execution_timeout": timedelta(minutes=55),
}
"""Of every task. A task that would outlast its hour is ended, so that runs do not pile up."""


class Tag(StrEnum):
    """The tags that DAGs may carry."""

    TIER_1 = "tier-1"
    TIER_2 = "tier-2"
    MARTS = "marts"
    QUALITY = "quality"
    LANDING = "landing"
    HOUSEKEEPING = "housekeeping"


class LandedTrigger(BaseEventTrigger):
    """Fires when offsets have landed since it last fired, at most once an interval.

    Runs in the triggerer: one small query a poll, no task and no scheduling. The interval comes
    first, so a restart of the triggerer does not start a build of its own.
    """

    def __init__(self, poll_seconds: float = 15.0) -> None:
        super().__init__()
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, as the metadata database keeps them: no secret in them."""
        return "herald.orchestration.LandedTrigger", {"poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event each time; a warehouse that is down is waited for."""
        settings = load_settings()
        pause: float = settings.airflow.marts_interval_seconds
        seen = None
        async with httpx.AsyncClient(timeout=10) as client:
            while True:
                await asyncio.sleep(pause)
                newest = await self._newest(client, settings)
                if newest is None or newest == seen:
                    pause = self.poll_seconds
                    continue
                seen, pause = newest, settings.airflow.marts_interval_seconds
                yield TriggerEvent({"landed_at": newest})

    async def _newest(self, client: httpx.AsyncClient, settings: Settings) -> str | None:
        """Time of the newest landing, None when there is none or nobody answers."""
        warehouse = settings.warehouse
        try:
            answer = await client.post(
                f"{'https' if warehouse.secure else 'http'}://{warehouse.host}:{warehouse.port}/",
                content="select max(landed_at) from raw.landed_ranges having count() > 0",
                headers={
                    "X-ClickHouse-User": warehouse.reader_user,
                    "X-ClickHouse-Key": warehouse.reader_password.get_secret_value(),
                },
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.log.warning("warehouse does not say what landed: %s", error)
            return None
        return answer.text.strip() or None


EVENTS_LANDED = Asset(
    "events_landed",
    uri="clickhouse://warehouse/raw/events",
    watchers=[AssetWatcher(name="landed", trigger=LandedTrigger())],
)
"""New rows in raw.events."""

MARTS_BUILT = Asset("marts_built", uri="clickhouse://warehouse/marts")
"""The marts hold what landed, and passed their gate."""


class RunModule(BaseOperator):
    """Runs `python -m MODULE ARGUMENTS` in one of the environments; its output is the task's log.

    arguments: templated; one that renders to nothing is left out.
    options: templated, `--name value`; left out where the value is empty or False, a bare flag
        where it is True. Values are never seen by a shell.
    final_exit_codes: these end the task without a retry: the answer would be the same.
    """

    template_fields: Sequence[str] = ("arguments", "options")

    def __init__(
        self,
        *,
        environment: EnvironmentName,
        module: str,
        arguments: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        final_exit_codes: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.environment = environment
        self.module = module
        self.arguments = list(arguments)
        self.options = dict(options or {})
        self.final_exit_codes = tuple(final_exit_codes)
        self._hook: SubprocessHook | None = None

    def command(self) -> list[str]:
        """The command line, after rendering."""
        words = [env_python(self.environment), "-m", self.module]
        words += [word for word in self.arguments if word]
        for name, value in self.options.items():
            if value in ("", "None", "False"):
                continue
            words += [f"--{name}"] if value == "True" else [f"--{name}", value]
        return words

    def execute(self, context: Any) -> None:
        """Run it; a non-zero exit fails the task with the last line it printed."""
        self._hook = SubprocessHook()
        result = self._hook.run_command(
            self.command(), env={**os.environ, "PYTHONUNBUFFERED": "1"}, cwd=str(ROOT)
        )
        if result.exit_code == 0:
            return
        message = f"{self.module} ended with exit code {result.exit_code}: {result.output}"
        if result.exit_code in self.final_exit_codes:
            raise AirflowFailException(message)
        raise AirflowException(message)

    def on_kill(self) -> None:
        """End the process with the task."""
        if self._hook is not None:
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                self._hook.send_sigterm()


def herald_command(
    task_id: str, *arguments: str, options: Mapping[str, str] | None = None, **kwargs: Any
) -> RunModule:
    """A task that runs the `herald` command line with the given arguments and options."""
    return RunModule(
        task_id=task_id,
        environment="app",
        module="herald.cli.main",
        arguments=arguments,
        options=options,
        **kwargs,
    )


def quality_gate(*layers: str, **kwargs: Any) -> RunModule:
    """A task that checks every suite of the layers; its failure holds back what is downstream."""
    return RunModule(
        task_id=kwargs.pop("task_id", f"check_{'_'.join(layers)}"),
        environment="warehouse",
        module="expectations.run",
        arguments=[*(word for layer in layers for word in ("--layer", layer))],
        options={"run-id": "{{ run_id }}"},
        final_exit_codes=(1,),
        **kwargs,
    )


def dbt_build(layer: str, select: str, **kwargs: Any) -> DbtBuildLocalOperator:
    """A task `build_<layer>`: seeds, snapshots, models and data tests of a selection, in one dbt.

    One process a layer, not a task a model: dbt takes seconds to start on two cores, and its own
    graph runs the models in order and stops at the first that fails.

    Args:
        layer: what the task is named for.
        select: dbt selection, such as `tag:staging`.
        kwargs: arguments of the operator.
    """
    return DbtBuildLocalOperator(
        task_id=f"build_{layer}",
        project_dir=str(PROJECT),
        profile_config=ProfileConfig(
            profile_name="herald",
            target_name="warehouse",
            profiles_yml_filepath=PROJECT / "profiles.yml",
        ),
        dbt_executable_path=str(DBT),
        invocation_mode=InvocationMode.SUBPROCESS,
        select=select,
        # unit tests prove the SQL, not the data: they run with the project's tests
        dbt_cmd_flags=["--exclude-resource-type", "unit_test"],
        interceptors=[_use_settings],
        callback=_keep_run_results,
        callback_args={"name": f"build_{layer}"},
        should_store_compiled_sql=False,
        emit_datasets=False,
        install_deps=False,
        **kwargs,
    )


def _use_settings(context: Any, operator: Any) -> None:
    """Give dbt the warehouse's address and login.

    In the environment of the task's own process and not in `env`, which is a templated field: the
    web page would show the password.
    """
    environment = dbt_environment(load_settings())
    # Cosmos runs dbt on a copy of the project, and says so by arguments
    for name in ("DBT_PROJECT_DIR", "DBT_PROFILES_DIR", "DBT_TARGET_PATH"):
        del environment[name]
    os.environ.update(environment)


def _keep_run_results(project_dir: str, name: str, context: Any) -> None:
    """Keep what dbt says of each model and test: Cosmos runs it in a folder that it deletes."""
    target = load_settings().state_dir / "dbt" / name
    target.mkdir(parents=True, exist_ok=True)
    for file in ("run_results.json", "manifest.json"):
        source = Path(project_dir) / "target" / file
        if source.is_file():
            shutil.copyfile(source, target / file)
