from pathlib import Path

import pytest

from herald.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [n for n in os.environ if n.startswith("HERALD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HERALD_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_settings_follow_environment_over_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HERALD_ENVIRONMENT", "cluster")
    monkeypatch.setenv("HERALD_WAREHOUSE__PORT", "9000")
    (tmp_path / "secrets.env").write_text("HERALD_WAREHOUSE__PASSWORD=generated\n")

    settings = load_settings()

    assert settings.warehouse.port == 9000  # environment
    assert settings.warehouse.host == "clickhouse"  # infra/config/cluster.yaml
    assert settings.warehouse.password.get_secret_value() == "generated"
    assert settings.warehouse.user == "herald"  # default
    assert settings.kafka.servers == "kafka:9092"


def test_settings_prefer_the_environment_when_a_secret_is_also_generated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secrets.env").write_text("HERALD_API__PASSWORD=generated\n")
    monkeypatch.setenv("HERALD_API__PASSWORD", "given")

    assert load_settings().api.password.get_secret_value() == "given"


def test_settings_name_every_problem_at_once_when_values_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERALD_KAFKA__PORT", "many")
    monkeypatch.setenv("HERALD_ENGINE__MAX_ROWS", "0")
    monkeypatch.setenv("HERALD_WAREHOUSE__SPEED", "9")
    monkeypatch.setenv("HERALD_TYPO", "1")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    for part in ("HERALD_KAFKA__PORT='many'", "HERALD_ENGINE__MAX_ROWS='0'", "HERALD_TYPO"):
        assert part in message
    assert "HERALD_WAREHOUSE__SPEED" in message


def test_settings_hide_the_value_when_a_secret_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERALD_API__PASSWORD__X", "hunter2")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert "hunter2" not in str(caught.value)


def test_settings_name_the_known_environments_when_the_file_is_missing() -> None:
    with pytest.raises(SettingsError, match=r"infra/config/moon\.yaml; known: .*local"):
        load_settings(environment="moon")


def test_settings_do_not_show_secrets_when_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERALD_POSTGRES__PASSWORD", "hunter2")

    assert "hunter2" not in repr(load_settings())
