"""Run folders that are half-written, damaged or foreign: one clear sentence, and the rest of the dashboard as ever."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kdaif.runs import runs_root
from tests.app.test_pages import PAGES, gallery, newest, opened


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def foreign(run: Path) -> None:
    (run.parent / "20990101-000000-foreign").mkdir()
    (run.parent / "20990101-000001-notes").mkdir()
    (run.parent / "20990101-000001-notes" / "config.json").write_text('{"name": "somebody else\'s"}')


DAMAGE: dict[str, Callable[[Path], None]] = {
    "foreign folders": foreign,
    "half a config": lambda run: cut(run / "config.json"),
    "half a status": lambda run: cut(run / "status.json"),
    "half a result": lambda run: cut(run / "result.json"),
    "half an epoch": lambda run: cut(run / "epochs" / "epoch=00004.parquet"),
    "half its samples": lambda run: cut(run / "samples.parquet"),
    "no samples": lambda run: (run / "samples.parquet").unlink(),
    "half its metrics": lambda run: cut(run / "metrics.parquet"),
    "no folder of epochs": lambda run: shutil.rmtree(run / "epochs"),
}


@pytest.fixture(params=DAMAGE)
def damaged(request: pytest.FixtureRequest, demo: Path) -> str:
    """The demo's runs, with something wrong about the newest KD-AIF run."""
    run = newest("kd-aif")
    DAMAGE[request.param](runs_root() / run)
    return run


@pytest.mark.parametrize("page", [*PAGES, "views/experiments.py"])
def test_one_sentence_says_what_is_wrong_and_the_rest_stands(app: AppTest, damaged: str, page: str) -> None:
    opened(app, page)
    said = [*(error.value for error in app.error), *(warning.value for warning in app.warning)]
    assert len(said) <= 1
    assert all(sentence.endswith(".") and "Traceback" not in sentence for sentence in said)
    assert app.header or page in ("views/samples.py", "views/dynamics.py", "views/card.py")


def test_the_other_runs_are_shown_all_the_same(app: AppTest, damaged: str) -> None:
    opened(app, PAGES[0])
    assert len(app.dataframe[0].value) >= 5
    if app.error:
        assert damaged in app.error[0].value
    else:
        assert len(gallery(app, "worst")[0]["samples"]) == 8
    other = next(run.name for run in sorted(runs_root().iterdir()) if "-kd-aif-" in run.name and run.name != damaged)
    opened(app, PAGES[1], run=other)
    assert not app.error
    assert len(gallery(app)) == 2
