"""`herald metrics query` against the warehouse."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from herald.cli.main import build_app
from herald.settings import Settings
from infra.local.environment import child_environment


@pytest.fixture
def run(served: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name, value in child_environment(served).items():
        monkeypatch.setenv(name, value)

    def invoke(*args: str) -> Result:
        base = [
            "metrics",
            "query",
            "--tenant",
            "acme",
            "--from",
            "2026-11-01",
            "--to",
            "2026-11-03",
        ]
        return CliRunner().invoke(build_app(), [*base, *args])

    return invoke


def test_query_prints_json_when_asked(run: Callable[..., Result]) -> None:
    result = run("sends", "roi", "--by", "channel", "--where", "!channel:push", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert [(r["channel"], r["sends"]) for r in answer["rows"]] == [("email", 5), ("in_app", 0)]
    assert answer["scope_label"] == "sent in range"


def test_query_prints_a_table_with_scope_and_freshness_when_not(run: Callable[..., Result]) -> None:
    result = run("unique_open_rate", "read_rate", "--by", "campaign", "--limit", "2", "--compare")
    assert result.exit_code == 0, result.output
    assert "n/a" in result.stdout
    assert "sent in range, data as of 2026-11-20" in result.stdout
    assert "raise --limit" in result.stdout


def test_query_ends_with_one_message_when_the_warehouse_is_down(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("HERALD_WAREHOUSE__PORT", str(free_port()))
    result = run("sends")
    assert result.exit_code == 1
    assert "herald status" in result.stderr
