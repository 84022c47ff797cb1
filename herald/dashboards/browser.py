"""Opens dashboards in headless Chromium: does every chart draw, and what does it look like?"""

from __future__ import annotations

import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, FloatRect, Page, Response, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from herald.settings import Settings

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXPECTED = '[data-test="chart-grid-component"]'
DRAWN = f'{EXPECTED} [data-test="slice-container"]'
LOADING = '.chart-container .loading, [data-test="loading-indicator"]'
FAILED = f"{EXPECTED} [role=alert]"
DATA_PATHS = ("/api/v1/chart/data", "/superset/explore_json")
STABLE_SECONDS = 3.0
# of a picture whose pixels are all alike, deflate leaves less than this share
BLANK_SHARE = 0.002


class BrowserError(Exception):
    """No browser, no login, or a page that never came to rest."""


@dataclass
class Opened:
    """What a dashboard did in the browser."""

    slug: str
    charts: int
    errors: list[str]
    seconds: float
    screenshot: str = ""
    refused_hosts: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As a JSON record."""
        return asdict(self)


def chromium_path() -> str:
    """Where the system's Chromium is.

    Raises:
        BrowserError: there is none on the PATH.
    """
    named = os.environ.get("CHROMIUM_PATH")
    for candidate in (named, *CHROMIUM):
        if candidate and (found := shutil.which(candidate)):
            return found
    raise BrowserError(
        f"no browser on the PATH ({', '.join(CHROMIUM)}); on Debian: apt-get install chromium"
    )


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless Chromium with an empty profile, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path(), args=FLAGS, handle_sigint=False
        )
        try:
            yield browser
        finally:
            browser.close()


def check_dashboards(
    settings: Settings,
    slugs: Sequence[str],
    out_dir: Path,
    *,
    window: tuple[int, int] = (1680, 2600),
    timeout_seconds: float = 120.0,
) -> list[Opened]:
    """Open each dashboard as the administrator, wait until it has drawn, take its picture.

    Args:
        slugs: dashboards to open.
        out_dir: where `<slug>.png` is written.
        window: width and height in pixels; charts below it would not be drawn.
        timeout_seconds: longest wait for one dashboard.

    Raises:
        BrowserError: no browser, or the login failed.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": window[0], "height": window[1]})
        log_in(page, settings)
        return [
            open_dashboard(page, settings.superset.url, slug, out_dir, timeout_seconds)
            for slug in slugs
        ]


def log_in(page: Page, settings: Settings) -> None:
    """Sign in through the form, as a person does."""
    superset = settings.superset
    page.goto(f"{superset.url}/login/", wait_until="domcontentloaded")
    page.fill('input[name="username"], #username', superset.user)
    page.fill('input[name="password"], #password', superset.password.get_secret_value())
    page.keyboard.press("Enter")
    try:
        page.wait_for_url(lambda url: "/login" not in url, timeout=15_000)
    except PlaywrightError as error:
        raise BrowserError(f"Superset did not let {superset.user!r} in: {error}") from error


def open_dashboard(
    page: Page, url: str, slug: str, out_dir: Path, timeout_seconds: float
) -> Opened:
    """Open one dashboard in a signed-in page; see check_dashboards."""
    errors: list[str] = []
    refused: set[str] = set()

    def on_response(response: Response) -> None:
        if response.status >= 400 and any(path in response.url for path in DATA_PATHS):
            errors.append(f"{response.status} from {response.url}: {_text(response)}")

    def on_console(message: Any) -> None:
        if "Content Security Policy" in message.text:
            refused.add(message.text.split("'")[1] if "'" in message.text else message.text)

    page.on("response", on_response)
    page.on("console", on_console)
    started = time.monotonic()
    try:
        page.goto(f"{url}/superset/dashboard/{slug}/?standalone=2", wait_until="domcontentloaded")
        charts, seconds, problem = _wait_until_drawn(page, started, timeout_seconds)
    finally:
        page.remove_listener("response", on_response)
        page.remove_listener("console", on_console)
    if problem:
        errors.append(problem)
    errors += [f"chart shows: {text}" for text in page.locator(FAILED).all_inner_texts()]
    screenshot = out_dir / f"{slug}.png"
    _picture(page, screenshot)
    return Opened(slug, charts, errors, round(seconds, 1), str(screenshot), sorted(refused))


def _wait_until_drawn(page: Page, started: float, timeout_seconds: float) -> tuple[int, float, str]:
    """Wait for every chart to be drawn or failed, and that to last; charts, seconds, problem."""
    rested_since: float | None = None
    expected = drawn = failed = loading = 0
    while time.monotonic() - started < timeout_seconds:
        expected, drawn, failed, loading = (
            page.locator(selector).count() for selector in (EXPECTED, DRAWN, FAILED, LOADING)
        )
        if expected and not loading and drawn + failed >= expected:
            rested_since = rested_since or time.monotonic()
            if time.monotonic() - rested_since >= STABLE_SECONDS:
                return expected, rested_since - started, ""
        else:
            rested_since = None
        page.wait_for_timeout(250)
    problem = (
        f"after {timeout_seconds:.0f} s {drawn} of {expected} charts are drawn, "
        f"{failed} failed, {loading} still load"
    )
    return expected, time.monotonic() - started, problem


def _picture(page: Page, path: Path, attempts: int = 4) -> None:
    """Write the page's picture; Chromium sometimes gives a blank one, so look and try again.

    Raises:
        BrowserError: every attempt was blank.
    """
    height = page.evaluate(
        "(boxes) => Math.max(...[...document.querySelectorAll(boxes)]"
        ".map((box) => box.getBoundingClientRect().bottom + window.scrollY), 200) + 24",
        f"{EXPECTED}, .dashboard-markdown",
    )
    size = page.viewport_size or {"width": 1440, "height": 2600}
    clip = FloatRect(x=0, y=0, width=size["width"], height=min(size["height"], int(height)))
    for _ in range(attempts):
        page.screenshot(path=path, clip=clip, animations="disabled")
        if not is_blank(path.read_bytes()):
            return
        page.wait_for_timeout(1_000)
    raise BrowserError(f"{path.name}: {attempts} pictures in a row were blank")


def is_blank(png: bytes) -> bool:
    """Whether a PNG has next to nothing on it, judged by how far its pixels compress."""
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    pixels = len(zlib.decompress(data))
    return not pixels or len(data) / max(pixels, width * height) < BLANK_SHARE


def _text(response: Response) -> str:
    try:
        return response.text()[:500]
    except PlaywrightError:
        return "(no body)"
