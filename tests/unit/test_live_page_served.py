"""The live page as the API serves it: its policy, what may be kept, and what it says unbuilt."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api import page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>Live</title>")
    (tmp_path / "assets" / "index-abc123.js").write_text("export {};")
    return tmp_path


async def get(folder: Path, path: str) -> httpx.Response:
    app = FastAPI()
    page.install(app, folder)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://herald") as client:
        return await client.get(path, follow_redirects=True)


async def test_page_forbids_other_hosts_and_inline_code(folder: Path) -> None:
    answer = await get(folder, "/live")
    assert answer.status_code == 200
    assert "<title>Live</title>" in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_hashed_files_are_kept_and_the_page_is_asked_for_again(folder: Path) -> None:
    asset = await get(folder, "/live/assets/index-abc123.js")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["content-type"].startswith("text/javascript")
    assert (await get(folder, "/live/")).headers["cache-control"] == "no-cache"
    assert (await get(folder, "/live/assets/gone.js")).status_code == 404


async def test_missing_build_says_how_to_make_it(tmp_path: Path) -> None:
    answer = await get(tmp_path / "nothing", "/live/")
    assert answer.status_code == 503
    assert "make setup" in answer.text


async def test_page_appears_when_it_is_built_later(tmp_path: Path) -> None:
    app = FastAPI()
    page.install(app, tmp_path / "live")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://herald"
    ) as client:
        assert (await client.get("/live/")).status_code == 503
        (tmp_path / "live").mkdir()
        (tmp_path / "live" / "index.html").write_text("built")
        assert (await client.get("/live/")).text == "built"
