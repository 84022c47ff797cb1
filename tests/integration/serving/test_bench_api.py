"""The measurement of the API itself."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from herald.bench.api import ApiBenchError, run_api_bench
from herald.cli.main import build_app
from herald.settings import Settings
from infra.local.environment import child_environment


def test_figure_is_recorded_when_the_api_runs(
    served: Settings, api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in child_environment(served).items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(build_app(), ["bench", "api", "--requests", "100", "--json"])
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)[0]
    assert row["name"] == "api_p99_ms"
    assert row["value"] > 0
    assert "100 requests" in row["detail"]
    record = json.loads((served.state_dir / "bench.json").read_text())
    assert record["rows"] == [row]


def test_measuring_ends_with_a_message_when_the_api_is_away(
    served: Settings, free_port: Callable[[], int]
) -> None:
    away = served.model_copy(update={"api": served.api.model_copy(update={"port": free_port()})})
    with pytest.raises(ApiBenchError, match="does not answer"):
        run_api_bench(away, 100)
