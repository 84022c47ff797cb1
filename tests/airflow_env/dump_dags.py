"""Prints what the DAG folder holds as JSON. Runs in the Airflow environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag


def describe(dag: Any) -> dict[str, Any]:
    schedule = dag.schedule
    return {
        "file": Path(dag.fileloc).name,
        "schedule": [a.name for a in schedule] if isinstance(schedule, list) else schedule,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "doc_md": dag.doc_md,
        "tags": sorted(str(tag) for tag in dag.tags),
        "params": {name: dag.params[name] for name in dag.params},
        "tasks": [
            {
                "task_id": task.task_id,
                "owner": task.owner,
                "retries": task.retries,
                "timeout_seconds": (
                    task.execution_timeout.total_seconds() if task.execution_timeout else None
                ),
                "upstream": sorted(task.upstream_task_ids),
                "outlets": [outlet.name for outlet in task.outlets],
            }
            for task in dag.topological_sort()
        ],
    }


if __name__ == "__main__":
    bag = DagBag(sys.argv[1])
    found = {
        "import_errors": bag.import_errors,
        "dags": {dag_id: describe(dag) for dag_id, dag in bag.dags.items()},
    }
    Path(sys.argv[2]).write_text(json.dumps(found))
