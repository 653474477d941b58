import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.server import browser, chromium, dashboard
from tests.factories import demo_runs


@pytest.fixture(scope="session")
def opened_browser() -> Iterator[Browser]:
    if chromium() is None:
        reason = "chromium is not on the path"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder as the demo leaves it."""
    folder = tmp_path_factory.mktemp("dashboard")
    demo_runs(folder / "runs", seeds=2, epochs=5)
    return folder


@pytest.fixture(scope="session")
def address(cache: Path) -> Iterator[str]:
    """The real server's address."""
    with dashboard(cache) as url:
        yield url


@pytest.fixture
def page(opened_browser: Browser) -> Iterator[Page]:
    """A fresh window of 1280 x 800 that fails the test for errors in the console and for calls to other machines."""
    context = opened_browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = context.new_page()
    troubles: list[str] = []

    def heard(message: object) -> None:
        # a deep link makes Streamlit itself probe for its base path, and the browser reports the 404
        if message.type == "error" and "/_stcore/" not in message.location.get("url", ""):
            troubles.append(f"{message.text} {message.location}")

    def asked(request: object) -> None:
        if not request.url.startswith(("http://localhost:", "data:", "blob:")):
            troubles.append(f"asked {request.url}")

    page.on("console", heard)
    page.on("request", asked)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    yield page
    context.close()
    assert not troubles
