"""README's pictures, from real runs: ``python -m tests.e2e.tour CACHE [OUT_DIR [RUN]]``; the tour's own clicks, at 1280 x 800.

CACHE is a folder of runs as `kdaif sweep` leaves it; RUN, else the newest KD-AIF run, is shown.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page

from kdaif.runs import list_runs
from kdaif.runs.tables import run_table
from tests.e2e.screenshots import settle
from tests.e2e.server import ROOT, browser, dashboard

STOPS = {  # name of the picture -> page, buttons that are pressed there
    "overview": ("", ()),
    "samples": ("samples?room=Heat+map", ("Explain",)),
    "dynamics": ("dynamics", ()),
    "card": ("card", ("Measure the rest",)),
}
PATIENCE = 180_000  # milliseconds for what brings in torch


def shoot(cache: Path, out: Path, run: str = "") -> None:
    out.mkdir(parents=True, exist_ok=True)
    runs = run_table(list_runs(cache / "runs")).set_index("run_id")
    query = f"run={run}&experiment={runs['experiment'][run]}" if run else ""
    with dashboard(cache) as address, browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        for name, (path, buttons) in STOPS.items():
            page.goto(f"{address}/{path}{'&' if '?' in path else '?'}{query}")
            settle(page)
            for button in buttons:
                press(page, button)
            page.screenshot(path=out / f"{name}.png")


def press(page: Page, name: str) -> None:
    """Press a button, if it is still there, and wait for what it brings."""
    button = page.get_by_role("button", name=name)
    if not button.count():
        return
    button.click()
    page.wait_for_timeout(2000)
    page.wait_for_function("() => !document.querySelector('[data-testid=stProgress]')", timeout=PATIENCE)
    settle(page)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    shoot(Path(arguments[0]), Path(arguments[1]) if len(arguments) > 1 else ROOT / "docs" / "images", *arguments[2:3])
