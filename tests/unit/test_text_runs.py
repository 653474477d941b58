"""Sentences through the same loop, weights and run folders as images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdaif.cli import main
from kdaif.config import UserError
from kdaif.data.corpora import GLUE
from kdaif.report import ranked
from kdaif.runs import Run
from kdaif.train import train_new
from tests.sentences import small_text, write_glue, write_sentences


def trained(source: Path | str, *sets: str, root: Path | None = None) -> tuple[Run, dict]:
    result = train_new(small_text(source, *sets), root)
    return Run(Path(result["run_dir"])), result


@pytest.mark.parametrize("task", GLUE)
def test_every_glue_task_trains_from_200_rows(tmp_path: Path, task: str) -> None:
    short = ["data.max_tokens=48", "teacher.optim.epochs=1", "student.optim.epochs=1"]
    run, result = trained(f"glue/{task}", *short, root=write_glue(tmp_path, task))
    least = -1 if task == "stsb" else 0  # Pearson's correlation stands there for accuracy
    assert least <= result["test_accuracy"] <= 1
    for name in GLUE[task].figures:
        assert -1 <= result[f"test_{name}"] <= 1
        assert f"teacher_test_{name}" in run.provenance()
        assert np.isfinite(run.metrics()[f"test_{name}"]).all()
    samples, epoch = run.samples(), run.epoch()
    assert len(samples) == len(epoch)
    assert samples["text"].str.len().gt(0).all()
    assert samples["text_pair"].notna().all() == (GLUE[task].pair is not None)
    assert np.isfinite(epoch["influence"]).all()
    assert run.inputs() is None


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spread = np.linspace(0, 2, 400)
    folder = write_sentences(tmp_path_factory.mktemp("films"), train=400, test=100, mean=spread - 1, std=spread)
    pd.read_parquet(folder / "test.parquet").assign(mean=0.0, std=0.0).to_parquet(folder / "test.parquet")
    return folder


LEARN = ("teacher.optim.epochs=5", "student.optim.epochs=8")


def test_influence_finds_the_flipped_labels_of_sentences(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, result = trained(films, *LEARN, "data.columns={text: text, rating: mean, rating_spread: std}")
    assert result["flipped_auroc"] > 0.9
    assert result["test_accuracy"] > 0.85
    samples = run.samples()
    assert samples["flipped"].mean() == pytest.approx(0.3, abs=0.01)
    assert samples["rating"].between(-1, 1).all()
    assert samples["rating_spread"].between(0, 2).all()
    assert run.provenance()["truncated"] == 0
    worst = ranked(run, None, 5, helpful=False)
    assert worst["text"].tolist() == samples.set_index("id")["text"].loc[worst["id"]].tolist()
    assert {"rating", "rating_spread", "flipped"} <= set(worst)
    assert "text_pair" not in worst
    with pytest.raises(SystemExit):
        main(["detect", str(run.path), "--json"])
    said = capsys.readouterr().out
    assert "Spearman with the raters' disagreement" in said
    found = json.loads(said.splitlines()[-1])
    assert found["auroc"]["influence"] == pytest.approx(result["flipped_auroc"])
    assert -1 <= found["raters"]["influence"] <= 1


@pytest.mark.parametrize(
    "sets", [["influence.scope=all"], ["influence.update=periodic"], ["influence.target=worst-class"]]
)
def test_other_scopes_updates_and_targets_take_sentences(films: Path, sets: list[str]) -> None:
    run, result = trained(films, *sets)
    assert np.isfinite(run.epoch()["influence"]).all()
    assert result["flipped_auroc"] is not None


@pytest.mark.parametrize(
    "method", ["kd", "oracle", "ce", "small-loss", "aum", "confident-learning", "l2rw", "meta-weight-net"]
)
def test_every_method_takes_sentences(films: Path, method: str) -> None:
    short = ["data.train_size=120", "teacher.optim.epochs=1", "student.optim.epochs=1", "baselines.folds=2"]
    run, result = trained(films, f"method={method}", *short)
    assert run.status().state == "done"
    assert result["method"] == method


def test_the_command_says_how_many_sentences_lost_their_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sentences(tmp_path / "films", train=60, test=20, long="tedious film " * 5000)
    pd.read_parquet(folder / "test.parquet").assign(long="a film").to_parquet(folder / "test.parquet")
    (tmp_path / "run.json").write_text(small_text(folder, "data.columns.text=long", "student.optim.epochs=1").to_json())
    with pytest.raises(SystemExit) as end:
        main(["train", str(tmp_path / "run.json"), "--json"])
    said = capsys.readouterr()
    assert end.value.code == 0
    assert "48 training sentences were longer than data.max_tokens and lost their ends" in said.err + said.out
    assert json.loads(said.out.splitlines()[-1])["truncated"] == 48


def test_two_runs_of_a_seed_are_the_same(films: Path) -> None:
    first, second = (trained(films, "data.train_size=120")[0].epoch() for _ in range(2))
    assert first.equals(second)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["student.model=resnet8"], "student.model: 'resnet8' takes images, but the data are sentences"),
        (["teacher.model=digits-cnn"], "teacher.model: 'digits-cnn' takes images, but the data are sentences"),
        (["data.source=digits"], "student.model: got 'distilbert-micro', takes one of digits-cnn"),
        (
            ["data.max_tokens=1024", "data.columns.text=long"],
            "data.max_tokens: there are sentences of 1024 tokens, student",
        ),
    ],
)
def test_networks_and_data_that_do_not_fit(tmp_path: Path, sets: list[str], said: str) -> None:
    folder = write_sentences(tmp_path / "films", train=40, test=20, long="dull film " * 600)
    pd.read_parquet(folder / "test.parquet").assign(long="dull film").to_parquet(folder / "test.parquet")
    with pytest.raises(UserError, match=f"^{said}"):
        trained(folder, *sets)
