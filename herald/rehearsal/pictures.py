"""Pictures of the live page from a running platform, small enough for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as PlaywrightError

from herald.dashboards.browser import BrowserError, is_blank, open_browser
from herald.dashboards.pictures import shrink
from herald.settings import Settings


@dataclass(frozen=True, slots=True)
class Scene:
    """How one picture is taken."""

    name: str
    width: int = 1440
    height: int = 900
    scheme: str = "light"
    whole: bool = True
    """Down to the end of the page, or only what fits the window."""


SCENES = {
    one.name: one
    for one in (
        Scene("quiet"),
        Scene("busy"),
        Scene("alert"),
        Scene("dark", scheme="dark"),
        Scene("phone", width=390, height=1500, whole=False),
    )
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, and what the page said of its data when it was taken."""

    name: str
    path: str
    bytes: int
    state: str
    firing: int

    def record(self) -> dict[str, Any]:
        """As a JSON record."""
        return asdict(self)


def sign_in(page: Page, settings: Settings, query: str) -> None:
    """Open the page with these filters and sign in as a person does.

    Raises:
        BrowserError: the page is not there, or the token is not taken.
    """
    try:
        answer = page.goto(f"{settings.api.url}/live/?{query}")
    except PlaywrightError as error:
        raise BrowserError(f"{settings.api.url}/live does not open: {error}") from error
    if answer is None or not answer.ok:
        raise BrowserError(f"{settings.api.url}/live: {answer.text() if answer else 'no answer'}")
    page.fill("#token", settings.api.password.get_secret_value())
    page.keyboard.press("Enter")
    try:
        page.wait_for_selector("main[data-sequence]", timeout=30_000)
    except PlaywrightError as error:
        shown = page.locator("body").inner_text()[:300]
        raise BrowserError(f"no figures after the sign-in; the page shows: {shown}") from error


def take(
    settings: Settings,
    names: Sequence[str],
    out_dir: Path,
    *,
    tenant: str,
    window: int = 15,
) -> list[Picture]:
    """Take the scenes one after the other into `<out_dir>/live-<name>.png`.

    Args:
        names: keys of SCENES.
        out_dir: made when it is not there.
        tenant: whose figures.
        window: minutes shown.

    Raises:
        BrowserError: no browser, or the page shows no figures.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    query = urlencode({"tenant": tenant, "window": window})
    with open_browser() as browser:
        return [_take(browser, settings, SCENES[name], out_dir, query) for name in names]


def _take(browser: Browser, settings: Settings, scene: Scene, out_dir: Path, query: str) -> Picture:
    context = browser.new_context(
        viewport={"width": scene.width, "height": scene.height},
        color_scheme="dark" if scene.scheme == "dark" else "light",
        device_scale_factor=2 if scene.width < 500 else 1,
    )
    page = context.new_page()
    try:
        sign_in(page, settings, query)
        first = int(page.get_attribute("main", "data-sequence") or 0)
        # the second snapshot: numbers have come to rest, the map is loaded
        page.wait_for_function(
            "first => Number(document.querySelector('main').dataset.sequence) > first"
            " && document.querySelectorAll('canvas').length >= 4",
            arg=first,
            timeout=30_000,
        )
        path = out_dir / f"live-{scene.name}.png"
        for _ in range(4):
            page.wait_for_timeout(700)
            page.screenshot(path=path, full_page=scene.whole)
            if not is_blank(path.read_bytes()):
                break
        else:
            raise BrowserError(f"{path.name}: four pictures in a row were blank")
        state = page.locator(".freshness").inner_text().replace("\n", " ")
        firing = page.locator(".alert[data-status=firing]").count()
    finally:
        context.close()
    return Picture(scene.name, str(path), shrink(path), state, firing)
