"""`herald metrics` without a warehouse: the catalogue, and questions that are refused."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from herald.cli.main import build_app
from herald.metrics.registry import METRICS


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(build_app(), ["metrics", *args])
    return result.exit_code, result.stdout, result.stderr


def test_list_prints_every_metric_when_asked_for_json() -> None:
    code, out, _ = run("list", "--json")
    assert code == 0
    assert [m["name"] for m in json.loads(out)] == list(METRICS)


def test_list_prints_formulas_with_their_channels_when_shown_as_a_table() -> None:
    code, out, _ = run("list")
    assert code == 0
    assert "delivery_rate" in out
    assert "[email]" in out


def test_show_prints_the_sql_when_metric_is_known() -> None:
    code, out, _ = run("show", "unique_open_rate__human", "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["name"] == "unique_open_rate"
    assert shown["sql"] == "sum(unique_human_opens) / nullIf(sum(deliveries), 0)"
    assert run("show", "delivery_rate")[0] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "opn_rate"), "unique_open_rate"),
        (("query", "opns", "--tenant", "acme"), "did you mean 'opens'"),
        (("query", "opens", "--tenant", "acme", "--grain", "year"), "'hour'"),
        (("query", "opens", "--tenant", "acme", "--where", "channel"), "dimension:value"),
        (("query", "opens", "--tenant", "acme", "--by", "chanel"), "'channel'"),
    ],
)
def test_command_names_the_fix_when_something_is_wrong(args: tuple[str, ...], message: str) -> None:
    code, _, err = run(*args)
    assert code == 2
    assert message in err
