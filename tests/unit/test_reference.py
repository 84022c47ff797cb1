"""The generated pages are current, and the example names every setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from herald.reference import env_example, pages, settings
from herald.settings import ROOT, load_settings


@pytest.mark.parametrize("path", sorted(pages()))
def test_page_is_current(path: str) -> None:
    assert (ROOT / path).read_text() == pages()[path], f"{path} is stale: run `make docs`"


def test_env_example_names_every_setting_once() -> None:
    names = [line.split("=")[0].lstrip("#") for line in env_example().splitlines() if "=" in line]
    names = [name for name in names if name.startswith("HERALD_")]
    assert names == [one.name for one in settings()]
    assert len(names) == len(set(names))
    assert "HERALD_KAFKA__TOPICS__EVENTS" in names


def test_env_example_is_accepted_when_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line.removeprefix("#") for line in env_example().splitlines() if "=" in line]
    kept = [line for line in lines if line.startswith("HERALD_") and not line.endswith("=")]
    (tmp_path / ".env").write_text("\n".join(kept))
    monkeypatch.chdir(tmp_path)
    assert load_settings().kafka.port == 9192


def test_secrets_have_no_default_in_any_page() -> None:
    secret = {one.name for one in settings() if one.is_secret}
    assert "HERALD_POSTGRES__PASSWORD" in secret
    assert all(one.default == "" for one in settings() if one.is_secret)
