"""Which checkpoints Spark could not go on from, and who may use one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spark_jobs.sources.checkpoint import KEPT, FolderLock, complaint, set_aside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    for name in ("offsets", "commits"):
        (folder / name).mkdir(parents=True)
    (folder / "metadata").write_text('{"id":"x"}')
    for batch in range(3):
        (folder / "offsets" / str(batch)).write_text('v1\n{"conf":{}}\n{"t/0": 5}')
        (folder / "commits" / str(batch)).write_text('v1\n{"nextBatchWatermarkMs":0}')
    return folder


def test_checkpoint_is_usable_when_whole_new_or_stopped_between_plan_and_commit(
    folder: Path, tmp_path: Path
) -> None:
    assert complaint(folder) == ""
    assert complaint(tmp_path / "none") == ""
    (folder / "commits" / "2").unlink()
    assert complaint(folder) == ""


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:4])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "offsets" / "2").write_bytes(b""), "offsets/2: cut short"),
        (lambda f: (f / "offsets" / "2").write_text('v1\n{"conf":{}}'), "offsets/2: cut short"),
        (cut("offsets/1"), "offsets/1"),
        (cut("commits/2"), "commits/2"),
        (cut("metadata"), "metadata"),
        (lambda f: (f / "metadata").write_text("{}"), "no id"),
        (lambda f: (f / "metadata").unlink(), "metadata"),
        (lambda f: (f / "offsets" / "2").unlink(), "commits/2 has no file of offsets"),
        (lambda f: (f / "offsets" / "1").unlink(), "offsets/1 is missing"),
        (lambda f: [(f / "commits" / n).unlink() for n in "12"], "commits/1 is missing"),
        (lambda f: (f / "commits" / "2").write_bytes(b"\xff\xfe"), "commits/2"),
    ],
)
def test_checkpoint_is_refused_when_torn(
    folder: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(folder)
    assert said in complaint(folder)


def test_only_the_newest_are_kept_when_checkpoints_are_set_aside(folder: Path) -> None:
    for number in range(KEPT + 2):
        folder.mkdir(exist_ok=True)
        (folder / "number").write_text(str(number))
        kept = set_aside(folder)
        assert not folder.exists()
    assert (kept / "number").read_text() == str(KEPT + 1)
    assert len(list(folder.parent.iterdir())) == KEPT


def test_lock_is_taken_by_one_and_free_when_released(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "a" / "lock"), FolderLock(tmp_path / "a" / "lock")
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()
