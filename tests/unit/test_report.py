"""What is said of runs, on runs made by hand."""

import numpy as np
import pandas as pd
import pytest

from kdaif import report
from kdaif.config import RunConfig, UserError
from kdaif.report import paired
from kdaif.runs import Run, new_run
from tests.factories import digits_run

CLASSES = ("cat", "dog", "eel")


def hand_made(
    influence: list[float],
    method: str = "kd-aif",
    ids: list[str] | None = None,
    flipped: list[bool] | None = None,
    corrupted: list[bool] | None = None,
    classes: tuple[str, ...] = CLASSES,
    **columns: list,
) -> Run:
    """A run of one epoch with these values."""
    count = len(influence)
    run = new_run(RunConfig(method=method))
    samples = {"id": ids or [f"s{i}" for i in range(count)], "split": "train", "label": np.arange(count) % 3}
    known = {"flipped": flipped, "corrupted": corrupted}
    samples |= {name: values for name, values in known.items() if values is not None}
    run.write_samples(pd.DataFrame(samples), classes)
    run.write_epoch(1, {"influence": influence, **columns})
    return run


def finished(run: Run, accuracy: float, per_class: list[float]) -> Run:
    run.append_metrics({"epoch": 1, "test_accuracy": accuracy, "class_accuracy": per_class})
    run.write_result({"run_id": run.id, "test_accuracy": accuracy})
    return run


# --- ranking ---------------------------------------------------------------------------------------------------------


def test_the_most_negative_influence_is_the_most_harmful():
    run = hand_made([0.5, -3.0, 2.0, -1.0], weight=[1.0, 0.1, 1.0, 0.5])
    harmful = report.ranked(run, None, 2, helpful=False)
    assert harmful["id"].tolist() == ["s1", "s3"]
    assert harmful["influence"].tolist() == [-3, -1]
    assert harmful["weight"].tolist() == pytest.approx([0.1, 0.5])
    assert report.ranked(run, None, 9, helpful=True)["id"].tolist() == ["s2", "s0", "s3", "s1"]


def test_ranking_leaves_out_what_was_never_scored_and_keeps_ties_in_order():
    run = hand_made([1.0, np.nan, -1.0, -1.0])
    assert report.ranked(run, None, 9, helpful=False)["id"].tolist() == ["s2", "s3", "s0"]


def test_ranking_shows_flipped_only_where_it_is_known():
    assert "flipped" not in report.ranked(hand_made([1.0, 2.0]), None, 1, helpful=True)
    known = report.ranked(hand_made([1.0, 2.0], flipped=[True, False]), None, 2, helpful=True)
    assert known["flipped"].tolist() == [False, True]
    damaged = report.ranked(hand_made([1.0, 2.0], corrupted=[True, False]), None, 2, helpful=True)
    assert damaged["corrupted"].tolist() == [False, True]


def test_ranking_shows_what_was_measured_over_the_visits():
    visits = {
        "visits": [5, 4],
        "harmful_visits": [0, 4],
        "influence_spread": [0.1, 0.2],
        "influence_label": [1.0, -2.0],
    }
    found = report.ranked(hand_made([1.0, -2.0], **visits), None, 1, helpful=False)
    assert found.columns[3:7].tolist() == ["influence_spread", "visits", "harmful_visits", "influence_label"]
    assert found.iloc[0, 3:7].tolist() == pytest.approx([0.2, 4, 4, -2])


def test_ranking_of_an_epoch():
    run = hand_made([1.0, -1.0])
    run.write_epoch(2, {"influence": [-1.0, 1.0]})
    assert report.ranked(run, None, 1, helpful=False)["id"].tolist() == ["s0"]
    assert report.ranked(run, 1, 1, helpful=False)["id"].tolist() == ["s1"]
    with pytest.raises(UserError, match=f"epoch: got 3, run {run.id} has recorded 1 to 2"):
        report.ranked(run, 3, 1, helpful=False)


def test_a_surely_disagreeing_teacher_suggests_its_class():
    # given labels are cat, dog, eel, cat, dog
    run = hand_made(
        [0.0] * 5,
        teacher_prediction=[1, 2, 2, 0, -1],
        teacher_confidence=[0.9, 0.49, 0.9, 0.9, np.nan],
    )
    table = report.sample_table(run)
    assert table["given_label"].tolist() == ["cat", "dog", "eel", "cat", "dog"]
    assert table["suggested_label"].tolist() == ["dog", "dog", "eel", "cat", "dog"]


def test_a_run_without_influence_has_no_ranking():
    run = hand_made([np.nan] * 3, method="kd")
    with pytest.raises(
        UserError, match=f"run: {run.id} is of method kd, which measures no influence; takes a kd-aif run"
    ):
        report.ranked(run, None, 1, helpful=False)
    with pytest.raises(UserError, match="has recorded no epoch yet"):
        report.ranked(digits_run(recorded=0), None, 1, helpful=False)


# --- detection -------------------------------------------------------------------------------------------------------


def test_detection_figures_by_hand():
    flipped = [True, True, False, False, False, False, False, False, False, False]
    run = hand_made(
        [-5.0, -1.0, -2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],  # one clean sample between the two flipped
        flipped=flipped,
        loss=[9.0, 8.0, *range(8)],
        margin=[-9.0, -8.0, *range(8)],
        weight=[1.0] * 10,
    )
    run.write_epoch(2, {**run.epoch(1), "loss": [0.0, 1.0, *range(2, 10)]})  # forgotten in the second epoch
    result = report.detection(run, k=2)
    assert (result["run_id"], result["k"], result["sought"]) == (run.id, 2, "flipped")
    assert result["auroc"]["influence"] == 15 / 16
    assert result["precision_at_k"]["influence"] == 0.5
    assert result["recall_at_10_percent"]["influence"] == 0.5
    assert result["auroc"]["loss"] == 0  # of the last epoch
    assert result["auroc"]["aum"] == 1  # low margins are bad
    assert result["auroc"]["weight"] == 0.5  # it says nothing
    means = [4.5, 4.5, *[(a + b) / 2 for a, b in zip(range(8), range(2, 10))]]
    above = sum(mean < 4.5 for mean in means[2:]) + 0.5 * sum(mean == 4.5 for mean in means[2:])
    assert result["auroc"]["mean_loss"] == above / 8
    assert set(result["auroc"]) == set(result["precision_at_k"]) == set(result["recall_at_10_percent"])
    assert "teacher_loss" not in result["auroc"]  # never measured


def test_detection_of_a_run_without_influence_has_the_other_detectors():
    result = report.detection(digits_run("kd"))
    assert "influence" not in result["auroc"]
    assert result["auroc"]["loss"] > 0.9


def test_corrupted_inputs_are_sought_where_no_label_is_flipped():
    influence, corrupted = [-3.0, 1.0, 2.0, -2.0], [True, False, False, True]
    for flipped in (None, [False] * 4):
        result = report.detection(hand_made(influence, flipped=flipped, corrupted=corrupted), k=2)
        assert result["sought"] == "corrupted"
        assert (result["auroc"]["influence"], result["precision_at_k"]["influence"]) == (1, 1)
    both = report.detection(hand_made(influence, flipped=[False, True, False, False], corrupted=corrupted))
    assert both["sought"] == "flipped"
    assert both["auroc"]["influence"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("flipped", [None, [False, False, False]])
def test_without_a_known_wrong_label_there_is_nothing_to_detect(flipped):
    run = hand_made([1.0, 2.0, 3.0], flipped=flipped)
    with pytest.raises(UserError, match=f"detect: run {run.id} knows of no wrong label and of no raters"):
        report.detection(run)


def test_detectors_beside_the_disagreement_of_people_who_rated():
    """Alone where no label is known to be wrong; samples that nobody rated are left out."""
    spread = [0.1, 0.3, 0.2, 0.4, np.nan]
    for flipped in (None, [True, False, False, False, False]):
        run = hand_made([2.0, -1.0, 1.0, -2.0, 9.0], flipped=flipped, loss=[4.0, 3.0, 2.0, 1.0, 0.0])
        samples = run.samples().assign(rating_spread=spread)
        run.write_samples(samples, CLASSES)
        result = report.detection(run)
        assert result["raters"]["influence"] == pytest.approx(1)  # the more they disagree, the more harmful
        assert result["raters"]["loss"] == pytest.approx(-0.8)
        assert (result["sought"], bool(result["auroc"])) == (flipped and "flipped", bool(flipped))
    assert report.detection(hand_made([1.0, 2.0], flipped=[True, False]))["raters"] == {}
    agreed = hand_made([1.0, 2.0])
    agreed.write_samples(agreed.samples().assign(rating_spread=0.5), CLASSES)
    with pytest.raises(UserError, match="knows of no wrong label and of no raters"):
        report.detection(agreed)


# --- comparison ------------------------------------------------------------------------------------------------------


def test_comparison_side_by_side():
    first = finished(hand_made([3.0, 1.0, -2.0, -4.0]), 0.5, [0.2, 0.5, 0.8])
    second = finished(hand_made([3.0, 1.0, -2.0, -4.0]), 0.7, [0.6, 0.7, 0.8])
    result = report.comparison([first, second])
    assert result["runs"] == [first.result(), second.result()]
    assert result["per_class"] == {"cat": [0.2, 0.6], "dog": [0.5, 0.7], "eel": [0.8, 0.8]}
    (shift,) = result["rank_shift"]
    assert (shift["reference"], shift["run_id"], shift["shared"]) == (first.id, second.id, 4)
    assert (shift["spearman"], shift["top_100_overlap"], shift["chance"]) == (1, 1, 1)
    assert all(line["shift"] == 0 for line in shift["largest"])


def test_a_positive_rank_shift_is_a_sample_that_harms_less_than_before():
    first = finished(hand_made([-9.0, 1.0, 2.0, 3.0]), 0.5, [0.5] * 3)
    second = finished(hand_made([9.0, 1.0, 2.0, 3.0]), 0.5, [0.5] * 3)  # s0: from the most harmful to the least
    (line,) = report.comparison([first, second])["rank_shift"]
    assert line["largest"][0] == {"id": "s0", "shift": 3}
    assert sorted(other["shift"] for other in line["largest"][1:]) == [-1, -1, -1]
    assert line["spearman"] == pytest.approx(-0.2)


def test_rank_shift_is_of_the_shared_and_scored_samples():
    first = finished(hand_made([1.0, 2.0, 3.0], ids=["a", "b", "c"]), 0.5, [0.5] * 3)
    second = finished(hand_made([2.0, 1.0, np.nan], ids=["b", "a", "c"]), 0.5, [0.5] * 3)
    (line,) = report.comparison([first, second])["rank_shift"]
    assert line["shared"] == 2
    assert line["spearman"] == pytest.approx(1)


def test_runs_that_share_no_scored_sample_have_no_shift():
    first = finished(hand_made([1.0, 2.0, 3.0]), 0.5, [0.5] * 3)
    second = finished(hand_made([np.nan] * 3, method="kd"), 0.5, [0.5] * 3)
    (line,) = report.comparison([first, second])["rank_shift"]
    assert (line["shared"], line["spearman"], line["chance"], line["largest"]) == (0, None, None, [])


def test_only_finished_runs_on_the_same_classes_compare():
    done = finished(hand_made([1.0, 2.0, 3.0]), 0.5, [0.5] * 3)
    waiting = hand_made([1.0, 2.0, 3.0])
    with pytest.raises(UserError, match=f"compare: run {waiting.id} is queued, takes runs that are done"):
        report.comparison([done, waiting])
    other = finished(hand_made([1.0, 2.0, 3.0], classes=("ant", "bee", "cow")), 0.5, [0.5] * 3)
    with pytest.raises(UserError, match="compare: the runs have different classes, takes runs on the same data"):
        report.comparison([done, other])


# --- agreement of two runs -------------------------------------------------------------------------------------------


def test_only_samples_with_the_same_label_are_shared_and_harm_ranks_first():
    first = hand_made([-3.0, 1.0, 2.0, np.nan], ids=["a", "b", "c", "d"])
    second = hand_made([-1.0, 5.0, 3.0, 1.0], ids=["a", "x", "b", "d"])  # b has another label here
    shared = report.shared_scores(first, second)
    assert shared.to_dict("list") == {"id": ["a"], "first": [3.0], "second": [1.0]}


def test_agreement_of_a_ranking_with_itself_and_its_reverse():
    scores = pd.DataFrame({"id": list("abcd"), "first": [4.0, 3.0, 2.0, 1.0], "second": [4.0, 3.0, 2.0, 1.0]})
    assert report.agreement(scores, 2) == pytest.approx(
        {"shared": 4, "rgr": 1, "spearman": 1, "kendall": 1, "k": 2, "overlap": 1, "chance": 0.5}
    )
    reverse = report.agreement(scores.assign(second=-scores["first"]), 100)
    assert (reverse["kendall"], reverse["k"], reverse["overlap"], reverse["chance"]) == (pytest.approx(-1), 4, 1, 1)


# --- paired differences ----------------------------------------------------------------------------------------------


def scored(method: str, *accuracies: float, noise: float = 0.4) -> list[dict]:
    return [
        {"method": method, "noise": noise, "seed": seed, "test_accuracy": value}
        for seed, value in enumerate(accuracies)
    ]


def test_differences_are_paired_by_seed_with_an_interval_around_them():
    rows = [*scored("kd", 0.70, 0.74, 0.60, 0.66), *scored("kd-aif", 0.73, 0.78, 0.62, 0.71), *scored("ce", 0.7)]
    aif, ce = paired(rows)
    assert (aif["method"], aif["noise"], aif["pairs"]) == ("kd-aif", 0.4, 4)
    assert aif["difference"] == pytest.approx((0.03 + 0.04 + 0.02 + 0.05) / 4)
    assert 0.02 <= aif["low"] < aif["difference"] < aif["high"] <= 0.05
    assert (ce["pairs"], ce["low"], ce["high"]) == (1, None, None)
    assert paired(rows) == paired(rows)


def test_what_has_no_pair_has_no_line():
    assert paired(scored("kd-aif", 0.7)) == []
    assert paired([*scored("kd", 0.6, noise=0.2), *scored("kd-aif", 0.7)]) == []


# --- robustness of the ranking ---------------------------------------------------------------------------------------


def test_the_same_ranking_is_robust_and_a_reversed_one_is_not():
    first = finished(hand_made([1.0, 2.0, 3.0, 4.0]), 0.5, [0.5] * 3)
    same = finished(hand_made([10.0, 20.0, 30.0, 40.0]), 0.5, [0.5] * 3)
    turned = finished(hand_made([4.0, 3.0, 2.0, 1.0]), 0.5, [0.5] * 3)
    one, other = report.comparison([first, same, turned])["robustness"]
    assert (one["reference"], one["run_id"], one["shared"], one["rgr"], one["spearman"]) == (first.id, same.id, 4, 1, 1)
    assert (other["rgr"], other["spearman"]) == (pytest.approx(0), pytest.approx(-1))


def test_what_has_no_order_has_no_robustness():
    first = finished(hand_made([1.0, 2.0, 3.0]), 0.5, [0.5] * 3)
    second = finished(hand_made([np.nan] * 3, method="kd"), 0.5, [0.5] * 3)
    (line,) = report.comparison([first, second])["robustness"]
    assert (line["shared"], line["rgr"], line["spearman"], line["differs"]) == (0, None, None, ["method"])
