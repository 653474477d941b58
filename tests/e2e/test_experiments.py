"""Launch, close everything, come back: the promise of the Experiments page, as a user sees it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from kdaif.runs import list_runs
from tests.e2e.screenshots import settle
from tests.e2e.server import ROOT, dashboard

pytestmark = pytest.mark.e2e
LONG = {"timeout": 600_000}
# small digits runs; long enough in epochs for one to be cancelled half-way
MORE = ["device=cpu", "data.train_size=250", "data.test_size=50", "data.validation=0.2", "checkpoint_every=2"]


def opened(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"{address}/experiments")
    settle(page)
    return page


def fill(page: Page, label: str, text: str) -> None:
    field = page.get_by_label(label, exact=True).first
    field.fill(text)
    field.press("Control+Enter" if label == "Settings" else "Enter")
    settle(page)


def planned(browser: Browser, address: str, epochs: int) -> Page:
    """The form, filled: vanilla KD and the oracle at two rates with two seeds."""
    page = opened(browser, address)
    page.get_by_text("More settings").click()
    fill(page, "Settings", "\n".join([*MORE, "teacher.optim.epochs=2", f"student.optim.epochs={epochs}"]))
    fill(page, "Seeds", "0, 1")
    page.get_by_role("button", name="KD-AIF", exact=True).click()
    return page


def shell_sweep(config: str, cache: Path, *words: str) -> subprocess.Popen:
    """The same grid from the command line."""
    command = [sys.executable, "-m", "kdaif", "sweep", config, *words, "--methods", "kd,oracle", "--noise", "0,0.4"]
    environment = {**os.environ, "KDAIF_CACHE": str(cache)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen([*command, "--seeds", "0,1", "--json"], cwd=ROOT, env=environment, **pipes)


def told(shell: subprocess.Popen) -> list[dict]:
    """The rows that it ends with."""
    said = shell.communicate(timeout=600)[0]
    assert shell.returncode == 0
    return json.loads(said.splitlines()[-1])["rows"]


def states(cache) -> list[str]:
    return sorted(summary.status.state for summary in list_runs(cache / "runs"))


def test_launch_close_everything_come_back_cancel_resume_and_the_same_from_the_shell(opened_browser, tmp_path):
    cache = tmp_path / "cache"
    with dashboard(cache) as address:
        page = planned(opened_browser, address, epochs=12)
        page.get_by_role("button", name="Queue 8 runs").click()
        expect(page.get_by_role("heading", level=2)).to_contain_text("of 8 runs", **LONG)
        page.context.close()
    assert len(list_runs(cache / "runs")) == 8  # browser and server are gone, the sweep is not
    with dashboard(cache) as address:
        page = opened(opened_browser, address)
        last = page.locator("[class*=st-key-cancel-] button:visible").last
        run_id = last.evaluate(
            "button => button.closest('[class*=st-key-cancel-]').className.match(/cancel-([\\w-]+)/)[1]"
        )
        last.click()
        resume = page.locator(f".st-key-resume-{run_id} button:visible")
        expect(resume).to_be_visible(**LONG)
        resume.click()
        expect(page.get_by_role("heading", level=2)).to_contain_text("All 8 runs are done", **LONG)
        expect(page.get_by_role("heading", name="Summary")).to_be_visible()
        page.context.close()
    assert states(cache) == ["done"] * 8
    queued = {(s.config.method, s.config.noise.rate, s.config.seed): s.result for s in list_runs(cache / "runs")}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(list_runs(cache / "runs")[0].config.model_dump(mode="json")))
    rows = told(shell_sweep(str(config), tmp_path / "shell"))
    assert len(rows) == 8
    for row in rows:
        same = queued[row["method"], row["noise"], row["seed"]]
        assert (row["test_accuracy"], row["validation_accuracy"]) == (
            same["test_accuracy"],
            same["validation_accuracy"],
        )


def test_two_browsers_two_servers_and_a_shell_on_one_folder_make_each_run_once(opened_browser, tmp_path):
    cache, few = tmp_path / "cache", ["teacher.optim.epochs=2", "student.optim.epochs=5"]
    with dashboard(cache) as one, dashboard(cache) as other:
        pages = [planned(opened_browser, address, epochs=5) for address in (one, other)]
        shell = shell_sweep("digits", cache, *(word for item in (*MORE, *few) for word in ("--set", item)))
        while not list_runs(cache / "runs"):  # it has begun
            assert shell.poll() is None
            time.sleep(0.02)
        for page in pages:
            page.get_by_role("button", name="Queue 8 runs").click(no_wait_after=True)
        for page in pages:
            expect(page.get_by_role("heading", level=2)).to_contain_text("All 8 runs are done", **LONG)
            page.context.close()
        rows = told(shell)
    summaries = list_runs(cache / "runs")
    assert states(cache) == ["done"] * 8
    assert {row["run_id"] for row in rows} == {summary.id for summary in summaries}
    asked = [json.loads(path.read_text())["runs"] for path in (cache / "sweeps").iterdir()]
    assert [sorted(runs) for runs in asked] == [sorted(summary.id for summary in summaries)] * 2


def test_a_class_matrix_is_chosen_and_its_wrong_labels_are_looked_at(opened_browser, tmp_path):
    """Every 3 and nothing else becomes an 8."""
    rows = [[float(given == (8 if true == 3 else true)) for given in range(10)] for true in range(10)]
    matrix = tmp_path / "threes.csv"
    matrix.write_text("\n".join(",".join(map(str, row)) for row in rows))
    with dashboard(tmp_path / "cache") as address:
        page = opened(opened_browser, address)
        page.get_by_role("combobox", name="Noise").click()
        page.get_by_role("option", name="Class matrix").click()
        expect(page.get_by_role("alert")).to_contain_text("needs noise.matrix", **LONG)
        page.locator("input[type=file]").set_input_files(matrix)
        expect(page.get_by_text("10 classes; 10 % of the labels")).to_be_visible(**LONG)
        page.get_by_role("button", name="Look at the data").click()
        expect(page.get_by_text("1,293 training, 144 validation and 360 test samples")).to_be_visible(**LONG)
        settle(page)
        captions = page.locator("[data-testid=stImageCaption]").all_inner_texts()
        wrong = [caption for caption in captions if "→" in caption]
        assert set(wrong) == {"8 → 3"}
        assert len(captions) > len(wrong) >= 8
        page.context.close()
