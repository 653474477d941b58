"""Runs whose labels are numbers, from sentences and images, end to end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from kdaif.card import measure_card
from kdaif.config import UserError, load_config
from kdaif.neighbours import measure
from kdaif.preview import preview
from kdaif.report import comparison, detection, ranked
from kdaif.retrain import edited_config
from kdaif.runs import Run
from kdaif.runs.run import list_runs
from kdaif.runs.tables import method_table, run_table, sample_table
from kdaif.train import train_new
from tests.sentences import SCORED, small_text, write_glue, write_scored
from tests.small import SMALL

LEARN = ("teacher.optim.epochs=6", "student.optim.epochs=8")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scored(tmp_path_factory.mktemp("scored"), 400, 100)


def trained(source: Path | str, *sets: str, root: Path | None = None) -> tuple[Run, dict]:
    result = train_new(small_text(source, *sets), root)
    return Run(Path(result["run_dir"])), result


def test_influence_finds_altered_numbers(scored: Path) -> None:
    run, result = trained(scored, *SCORED, *LEARN)
    assert result["accuracy_is"] == "Pearson's correlation"
    assert result["test_accuracy"] == pytest.approx(result["test_pearson"])
    assert min(result["test_pearson"], result["test_spearman"], run.provenance()["teacher_test_pearson"]) > 0.75
    assert result["flipped_auroc"] > 0.65  # the sign of a residual is all that influence sees: see docs/lab.md
    found = detection(run)
    assert found["sought"] == "flipped"
    assert min(found["auroc"]["influence"], found["auroc"]["teacher_loss"]) > 0.7
    samples, last = run.samples(), run.epoch()
    assert run.numbers
    assert set(samples["value"]) <= {0, 100, 200, 300, 400}
    assert (samples["flipped"] == (samples["value"] != samples["clean_value"])).all()
    assert np.corrcoef(last["teacher_value"], samples["clean_value"])[0, 1] > 0.75
    assert last["student_value"].between(-400, 800).all()
    assert (last["student_prediction"] == -1).all()
    assert last["student_confidence"].isna().all()
    variance = samples["clean_value"].var()
    np.testing.assert_allclose(
        last["teacher_loss"], (last["teacher_value"] - samples["value"]) ** 2 / variance, rtol=0.2, atol=1e-3
    )
    table = sample_table(run)
    assert table["given"].tolist() == [f"{value:.4g}" for value in samples["value"]]
    far = table["suggested"] != ""
    assert 0 < far.mean() < 0.6
    assert (table.loc[far, "suggested"] == table.loc[far, "teacher"]).all()
    assert (last["weight"][~far] >= 1).all()  # nobody seconds a doubt there
    worst = ranked(run, None, 10, helpful=False)
    assert set(worst["given_label"]) <= {"0", "100", "200", "300", "400"}
    (line,) = run_table(list_runs()).to_dict("records")
    assert line["setting"].endswith("; accuracy: Pearson's correlation")
    assert method_table(run_table(list_runs()))["mean"].iloc[0] == result["test_accuracy"]


SHORT = ("teacher.optim.epochs=1", "student.optim.epochs=1")


@pytest.mark.parametrize("method", ["kd", "oracle", "ce", "small-loss", "l2rw", "meta-weight-net"])
def test_methods_that_need_no_classes_take_numbers(scored: Path, method: str) -> None:
    run, result = trained(scored, *SCORED, *SHORT, "data.train_size=120", f"method={method}")
    assert run.status().state == "done"
    assert np.isfinite(run.metrics()["test_accuracy"]).all()
    assert -1 <= result["test_pearson"] <= 1


@pytest.mark.parametrize(
    "sets",
    [
        ["influence.scope=all"],
        ["influence.update=periodic", "influence.apply_to=relabel"],
        ["influence.validation=agreed", "influence.corroborate=none", "influence.apply_to=both"],
        ["influence.validation=given", "influence.temperature=1", "influence.target_temperature=1"],
    ],
)
def test_influence_settings_take_numbers(scored: Path, sets: list[str]) -> None:
    run, _ = trained(scored, *SCORED, *SHORT, "data.train_size=120", *sets)
    assert np.isfinite(run.epoch()["influence"]).all()


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["method=aum"], "method: got 'aum', which is made for classes; takes one of ce, kd, kd-aif, small-loss"),
        (["method=confident-learning"], "method: got 'confident-learning', which is made for classes"),
        (["distillation.loss=dkd"], "distillation.loss: got 'dkd', which is made for classes; takes one of ce, kd for"),
        (["influence.target=class:score"], "influence.target: got 'class:score', which is made for classes; takes"),
        (["influence.target=worst-class"], "influence.target: got 'worst-class', which is made for classes"),
    ],
)
def test_what_needs_classes_is_refused(scored: Path, sets: list[str], said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        trained(scored, *SCORED, *sets)


def test_stsb_is_a_regression_without_being_told(tmp_path: Path) -> None:
    run, result = trained("glue/stsb", *SHORT, "data.max_tokens=48", root=write_glue(tmp_path, "stsb"))
    assert result["accuracy_is"] == "Pearson's correlation"
    assert run.samples()["value"].between(0, 5).all()
    assert run.epoch()["student_value"].notna().all()


def test_what_reads_a_run_takes_numbers(scored: Path, tmp_path: Path) -> None:
    run, _ = trained(scored, *SCORED, *SHORT, "data.train_size=120")
    assert len(comparison([run, run])["runs"]) == 2
    config = edited_config(run, pd.DataFrame({"row": [0, 1], "label": ["", "250"]}))
    edited = Run(Path(train_new(config)["run_dir"])).samples()
    assert len(edited) == len(run.samples()) - 1
    assert edited["value"][0] == 250
    found = preview(small_text(scored, *SCORED))
    assert found["classes"] == ["score"]
    assert all(float(sample["given"]) != float(sample["true"]) for sample in found["flipped"])


def test_images_with_numbers_to_predict(tmp_path: Path) -> None:
    """How dark a digit is."""
    pixels, lines = load_digits().images[:300], []
    for row, image in enumerate(pixels):
        Image.fromarray((image * 15).astype(np.uint8)).save(tmp_path / f"{row}.png")
        lines.append({"image": f"{row}.png", "ink": float(image.mean())})
    pd.DataFrame(lines).to_csv(tmp_path / "ink.csv", index=False)
    sets = ["data.task=regression", "data.columns={label: ink}", "data.augment=none", f"data.source={tmp_path}/ink.csv"]
    base = [one for one in SMALL if not one.startswith("data.t")]
    result = train_new(load_config("digits", [*base, *sets, "student.optim.epochs=12", "teacher.optim.epochs=12"]))
    run = Run(Path(result["run_dir"]))
    assert result["test_pearson"] > 0.3
    card = measure_card(run)
    assert 0.5 < card["rga"] <= 1
    assert card["fairness"] == {}
    assert set(card["robustness"]) == {"gaussian", "blur", "occlusion"}
    relations = measure(run)
    assert relations.gradients.shape[1] == 1
    assert relations.held_labels.dtype.kind == "f"
