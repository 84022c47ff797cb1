"""Pictures of dashboards: blank ones are noticed, big ones are made small."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from herald.dashboards import browser
from herald.dashboards.browser import BrowserError, Opened, chromium_path, is_blank
from herald.dashboards.pictures import shrink


def drawn(path: Path, lines: int) -> Path:
    dice = random.Random(1)
    image = Image.new("RGB", (800, 600), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(lines):
        points = [dice.randrange(600) for _ in range(4)]
        pen.line(points, fill=tuple(dice.randrange(256) for _ in range(3)), width=3)
    image.save(path)
    return path


def test_picture_is_blank_when_nothing_is_drawn(tmp_path: Path) -> None:
    assert is_blank(drawn(tmp_path / "a.png", 0).read_bytes())
    assert not is_blank(drawn(tmp_path / "b.png", 60).read_bytes())


def test_shrink_stays_below_the_limit_when_the_picture_is_noise(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.frombytes("RGB", (1200, 900), random.Random(2).randbytes(1200 * 900 * 3)).save(path)

    size = shrink(path, 700_000)

    assert size == path.stat().st_size <= 700_000
    with Image.open(path) as image:
        assert image.width < 1200


def test_browser_says_what_to_install_when_none_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "CHROMIUM", ("no-such-browser",))
    monkeypatch.delenv("CHROMIUM_PATH", raising=False)
    with pytest.raises(BrowserError, match="apt-get install chromium"):
        chromium_path()


def test_record_holds_the_fields_that_records_promise() -> None:
    record = Opened("a", 3, ["x"], 1.5, "a.png").record()

    assert {"slug", "charts", "errors", "seconds", "screenshot"} <= record.keys()
    assert record["errors"] == ["x"]
