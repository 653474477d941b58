import numpy as np
import pandas as pd
import pytest

from kdaif.config import RunConfig
from kdaif.report import summarise
from kdaif.runs import Run, list_runs, new_run
from kdaif.runs.tables import (
    best_variant,
    config_difference,
    method_label,
    method_table,
    run_table,
    sample_table,
    setting,
    verdict_counts,
)
from tests.factories import sample_frame

KD, AIF, ORACLE = "Vanilla KD", "KD-AIF", "Oracle"


@pytest.fixture
def judged(run: Run) -> Run:
    """Samples 0 and 1 harmful, 2 helpful, the others neutral; the teacher disagrees with the label of 0 only."""
    label = sample_frame()["label"].to_numpy()
    teacher = label.copy()
    teacher[0] = 2
    influence = np.linspace(0, 1, 20)
    influence[:3] = -5, -3, 4
    weight = np.ones(20)
    weight[:3] = 0.1, 0.4, 1.2
    values = {"influence": influence, "weight": weight, "teacher_prediction": teacher, "loss": np.arange(20)}
    run.write_epoch(1, values)
    return run


def test_samples_carry_names_suggestion_verdict_and_rank(judged):
    table = sample_table(judged)
    first, second = table.iloc[0], table.iloc[1]
    assert (first["given"], first["suggested"], first["true"]) == ("cat", "eel", "cat")
    assert (second["given"], second["suggested"], second["true"]) == ("dog", "", "cat")
    assert (first["student"], first["teacher"]) == ("", "eel")  # the student's prediction was not measured
    assert table["verdict"].to_list() == ["harmful", "harmful", "helpful", *["neutral"] * 17]
    assert table.sort_values("rank").index[:2].to_list() == [0, 1]
    assert table["rank"].max() == table.loc[2, "rank"] == 19


def test_without_influence_the_loss_ranks(run):
    run.write_epoch(1, {"loss": np.arange(20), "weight": np.ones(20)})
    assert sample_table(run).sort_values("rank").index[0] == 19
    assert set(sample_table(run)["verdict"]) == {"neutral"}


def test_without_a_teacher_the_student_suggests(run):
    run.write_epoch(1, {"student_prediction": np.full(20, 1)})
    assert sample_table(run)["suggested"].to_list()[:3] == ["dog", "", "dog"]


def test_verdicts_are_counted_against_known_flips(judged):
    # flipped are 1, 2, 4 of the first five; harmful are 0 and 1
    counts = verdict_counts(sample_table(judged))
    assert counts == {"samples": 20, "harmful": 2, "flipped": 3, "precision": 0.5, "recall": pytest.approx(1 / 3)}


def test_unknown_flips_give_no_precision(judged):
    counts = verdict_counts(sample_table(judged).assign(flipped=pd.array([pd.NA] * 20, "boolean")))
    assert (counts["harmful"], counts["precision"], counts["recall"]) == (2, None, None)


def finished(method: str, seed: int, accuracy: float, **settings: object) -> Run:
    run = new_run(RunConfig.model_validate({"method": method, "seed": seed, **settings}))
    run.write_status(state="done")
    run.write_result({"test_accuracy": accuracy, "flipped_auroc": None, "seconds": 1.0})
    return run


def test_methods_are_compared_by_seed():
    for seed, (kd, aif, oracle) in enumerate([(0.80, 0.84, 0.85), (0.82, 0.84, 0.86)]):
        finished("oracle", seed, oracle)
        finished("kd-aif", seed, aif)
        finished("kd", seed, kd)
    table = method_table(run_table(list_runs())).set_index("label")
    assert list(table.index) == [KD, AIF, ORACLE]
    assert table.loc[AIF, "runs"] == 2
    assert table.loc[AIF, "mean"] == pytest.approx(0.84)
    assert table.loc[AIF, "gains"] == {0: pytest.approx(0.04), 1: pytest.approx(0.02)}
    assert table.loc[AIF, "gain"] == pytest.approx(0.03)
    assert table.loc[AIF, "oracle_gap_recovered"] == pytest.approx(0.03 / 0.045)
    assert pd.isna(table.loc[KD, "oracle_gap_recovered"])


def test_the_gap_is_that_of_the_seeds_that_all_three_have_wherever_it_is_said():
    for method, values in {"kd": [0.80, 0.70, 0.60], "kd-aif": [0.84, 0.79], "oracle": [0.85, 0.80, 0.90]}.items():
        for seed, accuracy in enumerate(values):
            finished(method, seed, accuracy)
    runs = run_table(list_runs())
    table = method_table(runs).set_index("label")
    assert table.loc[AIF, "oracle_gap_recovered"] == pytest.approx(0.13 / 0.15)
    assert table.loc[AIF, "to_oracle"] == {0: pytest.approx(-0.01), 1: pytest.approx(-0.01)}
    (said,) = [line for line in summarise(runs.to_dict("records")) if line["method"] == "kd-aif"]
    assert said["oracle_gap_recovered"] == table.loc[AIF, "oracle_gap_recovered"]


def test_the_best_variant_has_the_most_seeds_then_the_highest_mean():
    finished("kd-aif", 0, 0.90)
    for seed in (0, 1):
        finished("kd-aif", seed, 0.80, influence={"scope": "all"})
        finished("kd-aif", seed, 0.70, influence={"temperature": 3.0})
    best = best_variant(method_table(run_table(list_runs())))
    assert best is not None
    assert best["label"] == f"{AIF} (scope all)"
    assert best_variant(method_table(run_table([]))) is None


def test_the_newest_run_of_a_seed_counts(monkeypatch):
    stamps = iter(["20260101-000000", "20260101-000000", "20260102-000000", "20260102-000000"])
    monkeypatch.setattr("kdaif.runs.run.time.strftime", lambda _: next(stamps))
    finished("kd", 0, 0.5)
    finished("kd", 0, 0.6)
    assert method_table(run_table(list_runs()))["mean"].to_list() == [0.6]


def test_unfinished_runs_and_missing_methods_leave_gaps():
    assert method_table(run_table([])).empty
    new_run(RunConfig())
    assert method_table(run_table(list_runs())).empty
    finished("kd-aif", 0, 0.8)
    table = method_table(run_table(list_runs()))
    assert table["label"].to_list() == [AIF]
    assert pd.isna(table.loc[0, "gain"])
    assert pd.isna(table.loc[0, "oracle_gap_recovered"])


def test_no_gap_no_share():
    for method in ("kd", "kd-aif", "oracle"):
        finished(method, 0, 0.8)
    assert method_table(run_table(list_runs()))["oracle_gap_recovered"].isna().all()


def test_runs_of_one_setting_are_one_experiment():
    noise = {"kind": "symmetric", "rate": 0.4}
    finished("kd", 0, 0.5, noise=noise)
    finished("kd-aif", 1, 0.5, noise=noise, influence={"scope": "all"})
    finished("kd", 0, 0.5)
    table = run_table(list_runs())
    assert table.groupby("experiment").size().sort_values().to_list() == [1, 2]
    assert set(table["label"]) == {KD, f"{AIF} (scope all)"}


def test_settings_are_said_in_a_line():
    config = RunConfig.model_validate({"noise": {"kind": "symmetric", "rate": 0.4}})
    assert setting(config) == "digits, 40 % symmetric noise, digits-cnn-small, 30 epochs"
    assert setting(RunConfig()) == "digits, labels as given, digits-cnn-small, 30 epochs"
    assert method_label(RunConfig(method="oracle")) == "Oracle"


def test_config_difference_shows_only_what_differs():
    table = config_difference([RunConfig(), RunConfig(method="kd", seed=1), RunConfig(method="kd")])
    assert sorted(table.index) == ["method", "seed"]
    assert table.loc["method"].to_list() == ["kd-aif", "kd", "kd"]
    assert config_difference([RunConfig(), RunConfig()]).empty


def test_a_broken_run_is_left_out_of_the_table(run):
    bad = new_run(RunConfig())
    (bad.path / "config.json").write_text("{")
    assert run_table(list_runs())["run_id"].to_list() == [run.id]
