"""Rules: what is accepted, what is refused and how it is said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from herald.alerts.rules import KINDS, RULES, RuleError, evaluation_step_ms, load_rules, parse_rule
from herald.settings import ROOT

GOOD: dict[str, Any] = {
    "name": "late_mail", "kind": "delivery_gap", "owner": "team", "severity": "warning",
    "window": "15m", "threshold": 0.1, "min_volume": 10, "group_by": ["provider"],
    "runbook": "docs/runbooks/alerts-delivery_gap.md",
}  # fmt: skip


def test_project_rules_are_valid_and_cover_every_kind_when_loaded() -> None:
    rules = load_rules()
    assert {rule.kind for rule in rules} == set(KINDS)
    assert all(rule.owner and (ROOT / rule.runbook).is_file() for rule in rules)
    assert {rule.runbook for rule in rules} == {
        f"docs/runbooks/alerts-{kind}.md" for kind in KINDS
    }  # fmt: skip
    assert evaluation_step_ms(rules) == 60_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 3}, r"threshold=3: Input should be less than 1"),
        ({"window": "15 minutes"}, r"window='15 minutes': write a whole number and s, m, h or d"),
        ({"window": "90s"}, r"window: 0:01:30 is no multiple of every: 0:01:00; make it one"),
        ({"severity": "bad"}, r"severity='bad': Input should be 'info', 'warning' or 'critical'"),
        ({"group_by": ["user_id"]}, r"group_by.0='user_id': Input should be 'campaign_id'"),
        ({"thresold": 1}, r"thresold=1: no such field of this kind; remove it or mend its name"),
        ({"kind": "gap"}, r"kind='gap': no such kind; there are bot_storm, bounce_spike"),
        ({"owner": None}, r"owner=None: Input should be a valid string"),
        ({"every": "5s", "window": "2h"}, r"window: above 1h the counts are by minute"),
        ({"runbook": "notes.txt"}, r"runbook='notes.txt': String should match pattern"),
    ],
)
def test_parse_rule_names_field_value_and_fix_when_a_value_is_wrong(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuleError, match=message) as caught:
        parse_rule({**GOOD, **change}, "team.yaml")
    assert "team.yaml: late_mail" in str(caught.value)


def test_parse_rule_names_the_field_when_it_is_missing() -> None:
    with pytest.raises(RuleError, match="owner: missing; add it"):
        parse_rule({k: v for k, v in GOOD.items() if k != "owner"})


def test_over_messaging_refuses_windows_that_do_not_fit() -> None:
    rule = {
        **{k: v for k, v in GOOD.items() if k != "group_by"},
        "kind": "over_messaging", "window": "24h", "threshold": 10,
    }  # fmt: skip
    assert parse_rule(rule).window == timedelta(hours=24)
    with pytest.raises(RuleError, match="hop: 5:00:00 does not divide window: 1 day"):
        parse_rule({**rule, "hop": "5h"})
    with pytest.raises(RuleError, match="group_by: users are counted a tenant"):
        parse_rule({**rule, "group_by": ["channel"]})


def folder_of(tmp_path: Path, content: object) -> Path:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (tmp_path / "team.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_load_rules_takes_a_new_rule_without_code_when_a_file_is_added(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"rules": [GOOD, {**GOOD, "name": "off", "enabled": False}]})
    assert [rule.name for rule in load_rules(folder)] == ["late_mail"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rules": [GOOD, GOOD]}, "name: late_mail is used twice; rename one of them"),
        ({"alerts": [GOOD]}, "team.yaml: rules: write a list of rules"),
        ("rules: [", "team.yaml: no YAML"),
        (
            {"rules": [{**GOOD, "runbook": "docs/runbooks/none.md"}]},
            "runbook='docs/runbooks/none.md': no such file; write it",
        ),
    ],
)
def test_load_rules_refuses_the_file_when_it_is_wrong(
    tmp_path: Path, content: object, message: str
) -> None:
    with pytest.raises(RuleError, match=message):
        load_rules(folder_of(tmp_path, content))


def test_load_rules_refuses_when_a_folder_has_none(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"no \.yaml file with rules"):
        load_rules(tmp_path)


def test_quick_rules_set_the_grid_when_they_are_there() -> None:
    quick = parse_rule({**GOOD, "every": "5s", "window": "30s"})
    assert evaluation_step_ms([quick, parse_rule(GOOD)]) == 5_000
    assert evaluation_step_ms([parse_rule({**GOOD, "every": "7s", "window": "70s"}), quick]) == 1000
    assert RULES.is_dir()
