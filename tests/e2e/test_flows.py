"""Whole ways through the dashboard, on a run that was really trained, in a real browser."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from kdaif.runs import Run, new_run, open_run
from kdaif.runs.slices import MARKED, read_slice
from kdaif.runs.tables import sample_table
from kdaif.train import train_new
from tests.e2e.server import dashboard
from tests.e2e.test_dashboard import SHORT, go, in_url, visit
from tests.sentences import small_text, write_sentences
from tests.small import small

pytestmark = pytest.mark.e2e
LONG = {"timeout": 120_000}  # the first explanation brings in torch


@pytest.fixture(scope="module")
def home(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of its own with the trained run."""
    cache = tmp_path_factory.mktemp("flows")
    shutil.copytree(trained.path.parent.parent, cache, dirs_exist_ok=True)
    return cache


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[str]:
    with dashboard(home) as url:
        yield url


@pytest.fixture
def run(home: Path, trained: Run) -> Run:
    return open_run(home / "runs" / trained.id)


def test_three_clicks_to_the_list_of_the_100_most_harmful(page: Page, served: str, run: Run):
    visit(page, served)
    go(page, "Samples")  # 1
    page.get_by_role("button", name="Export").click()  # 2
    with page.expect_download(**SHORT) as download:
        page.get_by_role("button", name="100 most harmful").click()  # 3
    table = pd.read_csv(download.value.path())
    assert list(table["row"]) == list(sample_table(run).sort_values("rank").index[:100])
    assert {"given_label", "predicted_label", "label_quality", "is_label_issue", "run_id", "epoch", "seed"} <= set(
        table.columns
    )


def test_flipped_samples_are_found_explained_marked_and_shared(page: Page, served: str, run: Run):
    visit(page, served, "samples")
    page.get_by_role("combobox", name="Show").click()
    page.get_by_role("option", name="Flipped", exact=True).click()
    in_url(page, "show=Flipped")
    tile = page.locator("button.tile").first
    expect(tile).to_contain_text("flipped", **SHORT)
    tile.click()
    in_url(page, "sample=")
    row = int(page.locator("button.tile[aria-pressed=true]").get_attribute("data-row", **SHORT))
    assert run.samples()["flipped"][row]
    page.get_by_role("radio", name="Heat map").click()
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("Student:")).to_be_visible(**LONG)
    expect(page.get_by_role("img", name="Heat map of the teacher")).to_be_visible(**SHORT)
    page.get_by_role("radio", name="Act").click()
    page.get_by_role("combobox", name="What to do with this sample").click()
    page.get_by_role("option", name="Leave it out").click()
    expect(page.get_by_text("1 marked")).to_be_visible(**SHORT)
    assert list(read_slice(run, MARKED)["row"]) == [row]
    link = page.url
    other = page.context.new_page()
    other.goto(link)
    expect(other.get_by_text(f"Sample {row} ·")).to_be_visible(**SHORT)
    expect(other.get_by_text("1 marked")).to_be_visible(**SHORT)


def test_a_killed_run_reads_interrupted_by_itself(page: Page, tmp_path: Path):
    cache = tmp_path / "cache"
    run = new_run(small("student.optim.epochs=9000"), cache / "runs")
    command = [sys.executable, "-m", "kdaif", "train", "--run-dir", str(run.path)]
    with dashboard(cache) as address:
        trainer = subprocess.Popen(command, env={**os.environ, "KDAIF_CACHE": str(cache)}, stderr=subprocess.DEVNULL)
        try:
            while run.status().state != "running" or not run.epochs():
                assert trainer.poll() is None
                time.sleep(0.1)
            visit(page, address)
            expect(page.locator(".st-key-live")).to_contain_text("of 9000", **SHORT)
        finally:
            trainer.send_signal(signal.SIGKILL)
            trainer.wait()
        expect(page.locator(".st-key-live")).to_have_count(0, timeout=15_000)
        assert run.status().state == "interrupted"


def test_the_words_of_a_sentence_are_coloured_in_the_panel_and_in_the_list(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KDAIF_CACHE", str(tmp_path / "cache"))
    train_new(small_text(write_sentences(tmp_path / "films"), "teacher.optim.epochs=4"))
    with dashboard(tmp_path / "cache") as address:
        visit(page, address, "samples")
        tile = page.locator("button.tile").nth(1)
        sentence = tile.locator(".sentences p").inner_text()
        tile.click()
        in_url(page, "sample=")
        page.get_by_role("radio", name="Words").click()
        page.get_by_role("button", name="Explain").click()
        coloured = page.locator("button.tile .painted")
        expect(coloured).to_have_text(sentence, **LONG)
        expect(coloured.locator(".for, .against").first).to_be_visible(**SHORT)
        expect(page.get_by_role("group", name="in the eyes of the teacher")).to_have_text(sentence, **SHORT)
        expect(page.get_by_text("special tokens +0.00").first).to_be_visible(**SHORT)
        page.goto("about:blank")  # before the server ends, which the page would complain of


def test_a_foreign_folder_and_half_a_run_are_said_and_break_nothing(page: Page, home: Path, tmp_path: Path):
    cache = Path(shutil.copytree(home, tmp_path / "cache"))
    sound = next((cache / "runs").iterdir()).name
    (cache / "runs" / "20990101-000000-holiday-photos").mkdir()
    half = Path(shutil.copytree(cache / "runs" / sound, cache / "runs" / "20990101-000001-half"))
    (half / "samples.parquet").unlink()
    with dashboard(cache) as address:
        visit(page, address)
        page.get_by_text("2 folders among the runs could not be read").click()
        expect(page.get_by_text("holiday-photos holds no config.json")).to_be_visible(**SHORT)
        expect(page.get_by_text("is half a run: its samples.parquet is missing.")).to_be_visible(**SHORT)
        for title in ("Samples", "Dynamics", "Robustness", "Compare", "Experiments", "SAFE card"):
            go(page, title)
            expect(page.get_by_role("alert")).to_have_count(0)
        page.goto("about:blank")
