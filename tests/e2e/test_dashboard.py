"""The real command, the real browser: what cannot be seen without them."""

import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from kdaif.runs import list_runs, open_run
from kdaif.runs.tables import sample_table
from tests.e2e.screenshots import settle
from tests.e2e.server import dashboard
from tests.factories import demo_runs, digits_run

pytestmark = pytest.mark.e2e
HISTOGRAM = ".st-key-histogram .plotly .nsewdrag"
SHORT = {"timeout": 20_000}


def visit(page: Page, address: str, path: str = "") -> None:
    page.goto(f"{address}/{path}")
    settle(page)


def go(page: Page, title: str) -> None:
    page.get_by_role("link", name=title).first.click()
    settle(page)


def brush(page: Page, start: float, end: float) -> None:
    """Draw a box over a share of the histogram's width."""
    box = page.locator(HISTOGRAM).first.bounding_box()
    height = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], height)
    page.mouse.down()
    for share in (0.3, 0.6, 1.0):
        page.mouse.move(box["x"] + (start + share * (end - start)) * box["width"], height)
    page.mouse.up()


def in_url(page: Page, text: str) -> None:
    page.wait_for_function("text => location.search.includes(text)", arg=text, **SHORT)


def bottom(page: Page, selector: str) -> float:
    box = page.locator(selector).first.bounding_box()
    return box["y"] + box["height"]


def test_every_page_makes_its_point_without_scrolling(page, address):
    visit(page, address)
    expect(page.get_by_role("heading", level=2)).to_contain_text("of what a perfect label cleaner would gain")
    assert bottom(page, ".st-key-gains") <= 800
    assert bottom(page, ".gallery") <= 800
    go(page, "Samples")
    expect(page.get_by_role("heading", level=2)).to_contain_text("samples look harmful")
    assert bottom(page, ".gallery") <= 800
    assert bottom(page, ".st-key-course") <= 800
    go(page, "Compare")
    expect(page.get_by_role("heading", level=2)).to_contain_text("on the test set")
    assert bottom(page, ".st-key-classes") <= 800
    go(page, "SAFE card")
    expect(page.get_by_role("heading", level=2)).to_contain_text("of the test samples")
    assert bottom(page, ".st-key-card") <= 800


def test_brushing_selects_a_tile_opens_and_the_selection_leaves_as_csv(page, address, cache):
    visit(page, address)
    go(page, "Samples")
    brush(page, 0.3, 0.8)
    in_url(page, "from=")
    settle(page)
    tile = page.locator("button.tile").nth(2)
    row = tile.get_attribute("data-row")
    tile.click()
    in_url(page, f"sample={row}")
    expect(page.get_by_text(f"Sample {row} ·")).to_be_visible(**SHORT)
    expect(page.locator(f'button.tile[data-row="{row}"]')).to_have_attribute("aria-pressed", "true", **SHORT)
    expect(page.locator(f'button.tile[data-row="{row}"]')).to_be_focused()
    page.get_by_role("button", name="Export").click()
    with page.expect_download(timeout=20_000) as download:
        page.get_by_role("button", name="selected").click()
    table = pd.read_csv(download.value.path())
    low, high = (float(page.get_by_label(end, exact=True).input_value()) for end in ("from", "to"))
    run = next(run for run in list_runs(cache / "runs") if run.config.method == "kd-aif")
    expected = sample_table(open_run(run.path))["weight"].between(low, high)
    assert sorted(table["row"]) == list(expected.index[expected])
    assert set(table["run_id"]) == {run.id}
    assert (set(table["epoch"]), set(table["seed"])) == ({5}, {run.config.seed})


def test_a_link_shows_the_same_again_and_clear_opens_the_range(page, address):
    visit(page, address, "samples?from=0.2&to=0.9&sample=7&epoch=2&field=Influence")
    expect(page.get_by_text("Sample 7 ·")).to_be_visible(**SHORT)
    expect(page.get_by_label("from", exact=True)).to_have_value("0.20")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", "2")
    page.locator(".st-key-clear button").click()
    page.wait_for_function("() => !location.search.includes('from=')", **SHORT)
    expect(page.get_by_role("button", name="Export 1,200")).to_be_visible(**SHORT)
    in_url(page, "run=")


def test_the_selection_and_its_place_in_the_url_come_along(page, address):
    visit(page, address, "samples?to=0.8&sample=7&class=digit+3")
    go(page, "Dynamics")
    expect(page.get_by_label("to", exact=True)).to_have_value("0.80", **SHORT)
    for part in ("sample=7", "to=0.8", "class=digit", "run="):
        in_url(page, part)
    assert bottom(page, ".st-key-heat") <= 800


def test_brushing_twice_works(page, address):
    visit(page, address)
    go(page, "Samples")
    brush(page, 0.1, 0.4)
    in_url(page, "from=")
    settle(page)
    first = page.evaluate("location.search")
    brush(page, 0.5, 0.9)
    page.wait_for_function("first => location.search !== first", arg=first, **SHORT)


def test_a_picture_on_the_overview_leads_to_its_sample(page, address):
    visit(page, address)
    tile = page.locator("button.tile").nth(1)
    row = tile.get_attribute("data-row")
    tile.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"Sample {row} ·")).to_be_visible(**SHORT)
    in_url(page, f"sample={row}")


def test_a_row_of_the_table_opens_that_run(page, address, cache):
    visit(page, address)
    table = page.locator("[data-testid=stDataFrame]")
    box = table.bounding_box()
    page.mouse.click(box["x"] + 365, box["y"] + 35 + 17 + 2 * 35)  # the third row's button, drawn on a canvas
    third = list_runs(cache / "runs")[2].id
    in_url(page, f"run={third}")


def test_another_run_is_in_the_url_and_the_back_button_returns(page, address):
    visit(page, address)
    go(page, "Samples")
    in_url(page, "run=")
    before = page.evaluate("location.search")
    page.get_by_role("combobox", name="Run").click()
    page.get_by_role("option").filter(has_text="Vanilla KD").first.click()
    expect(page.get_by_role("heading", level=2)).to_contain_text("weighs all", **SHORT)
    in_url(page, "-kd-digits")
    page.go_back()
    expect(page.get_by_role("heading", level=2)).to_contain_text("look harmful", **SHORT)
    assert page.evaluate("location.search") == before


@pytest.mark.parametrize("path", ["", "samples", "dynamics", "robustness", "compare", "experiments", "card"])
def test_a_phone_needs_no_sideways_scrolling(page, address, path):
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, address, path)
    wide = page.evaluate(
        "() => { const main = document.querySelector('[data-testid=stMain]'); return main.scrollWidth - main.clientWidth }"
    )
    assert wide <= 0


def test_a_long_queue_leaves_no_empty_page_below_it(page, tmp_path):
    cache = tmp_path / "many"
    demo_runs(cache / "runs", seeds=6, epochs=1)
    page.set_viewport_size({"width": 390, "height": 844})
    with dashboard(cache) as address:
        visit(page, address, "experiments")
        assert page.locator(".st-key-queue_rows").evaluate("box => box.scrollHeight - box.clientHeight") > 300
        empty = page.evaluate(
            "() => { const main = document.querySelector('[data-testid=stMain]');"
            " const end = document.querySelector('[data-testid=stMainBlockContainer]').getBoundingClientRect().bottom;"
            " return main.scrollHeight - main.scrollTop - end }"
        )
    assert empty <= 1


def test_a_tap_on_a_phone_brings_the_sample_into_view(page, address):
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, address, "samples")
    tile = page.locator(".gallery button.tile").nth(4)
    number = tile.get_attribute("aria-label").split(",")[0]
    assert page.locator(".st-key-room").bounding_box()["y"] > 844
    tile.click()
    expect(page.get_by_text(f"{number} · ")).to_be_in_viewport(**SHORT)
    settle(page)
    expect(page.get_by_text(f"{number} · ")).to_be_in_viewport(ratio=1)


def test_a_click_beside_the_panel_moves_nothing(page, address):
    page.set_viewport_size({"width": 1280, "height": 400})
    visit(page, address, "samples")
    page.locator(".gallery button.tile").nth(1).dispatch_event("click")  # Playwright's own click scrolls to the tile
    in_url(page, "sample=")
    settle(page)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 0


def test_progress_is_live_and_ends_by_itself(page, tmp_path):
    cache = tmp_path / "live"
    run = digits_run("kd-aif", epochs=4, recorded=1, root=cache / "runs")

    def train() -> None:
        for epoch in (2, 3, 4):
            time.sleep(1.5)
            run.write_status(epoch=epoch, eta_seconds=4.0 - epoch)
        run.write_result({"test_accuracy": 0.9, "flipped_auroc": 0.9, "seconds": 6.0})
        run.write_status(state="done")

    with dashboard(cache) as address:
        visit(page, address)
        expect(page.get_by_text("epoch 1 of 4")).to_be_visible(**SHORT)
        trainer = threading.Thread(target=train)
        trainer.start()
        expect(page.get_by_text("epoch 3 of 4")).to_be_visible(**SHORT)
        expect(page.locator(".st-key-live")).to_have_count(0, **SHORT)
        expect(page.get_by_role("heading", level=2)).to_contain_text("KD-AIF reached 90.0 % test accuracy")
        trainer.join()


def test_the_first_page_invites_to_run_the_demo(page, tmp_path):
    with dashboard(Path(tmp_path)) as address:
        visit(page, address)
        expect(page.get_by_role("button", name="Run the demo")).to_be_visible()
