"""Pictures of every page, wide and narrow, light and dark: ``python -m tests.e2e.screenshots OUT_DIR [CACHE]``.

Without CACHE, runs with made-up numbers are shown.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.e2e.server import browser, dashboard
from tests.factories import demo_runs

PAGES = {
    "overview": "",
    **{name: name for name in ("samples", "dynamics", "robustness", "compare", "experiments", "card")},
}
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}


def settle(page: Page) -> None:
    """Wait until the script has run and the charts are drawn."""
    page.wait_for_selector("h2", timeout=120_000)
    for waiting in ("stStatusWidget", "stSkeleton"):
        page.wait_for_function(f"() => !document.querySelector('[data-testid={waiting}]')", timeout=120_000)
    page.wait_for_function("() => [...document.images].every(image => image.complete)", timeout=120_000)
    page.wait_for_timeout(1000)  # fonts and the charts' own drawing


def shoot(out: Path, cache: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with dashboard(cache) as address, browser() as chromium:
        for theme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
                page = context.new_page()
                for name, path in PAGES.items():
                    page.goto(f"{address}/{path}")
                    settle(page)
                    page.screenshot(path=out / f"{name}-{size}-{theme}.png")
                    if size == "narrow":
                        full_height(page)
                        page.screenshot(path=out / f"{name}-{size}-{theme}-full.png")
                        page.set_viewport_size({"width": width, "height": height})
                context.close()


def full_height(page: Page) -> None:
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": min(int(height) + 20, 5000)})
    page.wait_for_timeout(500)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        shoot(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            demo_runs(Path(folder) / "runs")
            shoot(Path(sys.argv[1]), Path(folder))
