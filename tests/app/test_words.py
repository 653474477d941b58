from collections.abc import Sequence

import pandas as pd
import pytest

from app.ui.detail import opinions
from app.ui.look import duration, percent, points
from app.ui.sentences import compare_sentence, overview_sentence, robustness_sentence, samples_sentence
from kdaif.runs.tables import method_table

COUNTS = {"samples": 1200, "harmful": 412, "flipped": 480, "precision": 0.94, "recall": 0.81}


VANILLA, OURS, ORACLE = [0.785, 0.795, 0.805], [0.8262] * 3, [0.835, 0.830, 0.840]


def runs(
    kd: Sequence[float | None] = (),
    aif: Sequence[float | None] = (),
    oracle: Sequence[float | None] = (),
    noise: float = 0.4,
    label: str = "KD-AIF",
) -> pd.DataFrame:
    """Finished runs with these accuracies, of seeds 0, 1, ...; None: no such seed."""
    accuracies = (("kd", "Vanilla KD", kd), ("kd-aif", label, aif), ("oracle", "Oracle", oracle))
    return pd.DataFrame(
        [
            {"state": "done", "method": method, "label": name, "noise": noise, "seed": seed, "test_accuracy": value}
            for method, name, values in accuracies
            for seed, value in enumerate(values)
            if value is not None
        ]
    )


def methods(
    kd: Sequence[float | None] = (), aif: Sequence[float | None] = (), oracle: Sequence[float | None] = ()
) -> pd.DataFrame:
    return method_table(runs(kd, aif, oracle))


def plain(sentence: str) -> str:
    """The sentence without its colours."""
    return pd.Series([sentence]).str.replace(r":color\[(.*?)\]\{.*?\}", r"\1", regex=True)[0]


def test_overview_says_what_was_gained_and_found():
    assert plain(overview_sentence(methods(VANILLA, OURS, ORACLE), COUNTS)) == (
        "KD-AIF recovered 78 % of what a perfect label cleaner would gain (mean of 3 seeds). "
        "412 of 1,200 samples look harmful, 94 % of them rightly."
    )


def test_overview_says_less_where_less_is_known():
    assert plain(overview_sentence(methods(aif=OURS), {**COUNTS, "precision": None})) == (
        "KD-AIF reached 82.6 % test accuracy (mean of 3 seeds); there is no vanilla KD run of the same seed to measure it "
        "against yet. 412 of 1,200 samples look harmful."
    )
    assert plain(overview_sentence(methods(VANILLA, OURS), None)) == (
        "KD-AIF reached 82.6 % test accuracy, 3.1 points above vanilla KD (mean of 3 seeds)."
    )
    assert overview_sentence(methods(VANILLA), None) == "No KD-AIF run of this experiment has finished yet."


def test_no_share_is_told_of_a_gain_of_less_than_a_point():
    small = methods([0.830], [0.841], [0.835])
    assert plain(overview_sentence(small, None)) == (
        "KD-AIF gained 1.1 points over vanilla KD, a perfect label cleaner 0.5 (one seed)."
    )
    low, high = runs([0.85], [0.86], [0.87], noise=0.2), runs([0.83], [0.84], [0.838])
    assert plain(robustness_sentence(pd.concat([low, high]))) == (
        "From 20 % to 40 % wrong labels KD-AIF loses 2.0 points, vanilla KD loses 2.0 points; "
        "the oracle's gain there is 0.8 points (one seed)."
    )


def test_a_loss_is_called_a_loss():
    worse = methods(VANILLA, [value - 0.01 for value in VANILLA], ORACLE)
    assert "1.0 point below vanilla KD" in plain(overview_sentence(worse, None))


def test_compare_places_kd_aif_between_the_two():
    assert plain(compare_sentence(methods(VANILLA, OURS, ORACLE))) == (
        "KD-AIF reaches 82.6 % on the test set, 3.1 points above vanilla KD and 0.9 points below the oracle (mean of 3 seeds)."
    )


def test_distances_are_those_of_shared_seeds_and_say_how_many():
    one = methods([0.66, 0.65, 0.64], [0.687], [0.70, 0.69, 0.68])
    assert plain(compare_sentence(one)) == (
        "KD-AIF reaches 68.7 % on the test set, 2.7 points above vanilla KD and 1.3 points below the oracle (one seed)."
    )
    assert "recovered 68 % of what a perfect label cleaner would gain (one seed)." in plain(
        overview_sentence(one, None)
    )
    fewer = methods([0.66], [0.68, 0.69, 0.70], [0.70, 0.71])
    assert plain(compare_sentence(fewer)) == (
        "KD-AIF reaches 69.0 % on the test set (mean of 3 seeds), 2.0 points above vanilla KD (one seed) "
        "and 2.0 points below the oracle (mean of 2 seeds)."
    )
    assert "recovered 50 % of what a perfect label cleaner would gain (one seed)." in plain(
        overview_sentence(fewer, None)
    )
    apart = methods([0.66], [None, 0.69])
    assert plain(compare_sentence(apart)) == "KD-AIF reaches 69.0 % on the test set (one seed)."
    assert "no vanilla KD run of the same seed" in overview_sentence(apart, None)


def test_robustness_counts_the_seeds_that_stand_at_both_rates():
    low, high = runs([0.66], [0.69, 0.50], [0.70]), runs([0.55, 0.40], [0.58, 0.45, 0.30], [0.65, 0.60], noise=0.6)
    assert plain(robustness_sentence(pd.concat([low, high]))) == (
        "From 40 % to 60 % wrong labels KD-AIF loses 11.0 points, vanilla KD loses 11.0 points (one seed); "
        "KD-AIF recovers 27 % of the oracle gap there (mean of 2 seeds)."
    )
    assert plain(robustness_sentence(pd.concat([low[low["method"] != "kd"], high]))) == (
        "From 40 % to 60 % wrong labels KD-AIF loses 8.0 points; KD-AIF recovers 27 % of the oracle gap there (mean of 2 seeds)."
    )
    other_seed = pd.concat([runs(aif=[None, None, None, 0.9]), runs(aif=[0.58], noise=0.6)])
    assert plain(robustness_sentence(other_seed)) == "At 60 % wrong labels KD-AIF reaches 58.0 % (one seed)."


def test_robustness_without_kd_aif_says_so():
    assert robustness_sentence(runs(VANILLA)) == "No KD-AIF run on these data and networks has finished yet."


def test_samples_speak_of_what_the_method_judges():
    assert plain(samples_sentence(COUNTS, "kd-aif")) == "412 of 1,200 samples look harmful, 94 % of them rightly."
    assert "weighs all 1,200 training samples the same" in samples_sentence(COUNTS, "kd")
    assert "leaves 412 of 1,200 samples out" in samples_sentence(COUNTS, "oracle")
    assert "None of the 1,200" in samples_sentence({**COUNTS, "harmful": 0}, "kd-aif")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (percent(0.784), "78 %"),
        (percent(None), "–"),
        (percent(float("nan")), "–"),
        (points(0.021), "+2.1"),
        (points(-0.02), "−2.0"),
        (points(0.0), "±0.0"),
        (points(-0.0001), "±0.0"),
        (duration(4.4), "4 s"),
        (duration(75), "1 min 15 s"),
        (duration(3700), "1 h 1 min"),
    ],
)
def test_figures_are_spelled_for_people(said, expected):
    assert said == expected


def test_opinions_leave_out_what_is_unknown():
    sample = pd.Series(
        {"given": "cat", "true": "dog", "flipped": True, "teacher": "dog", "teacher_confidence": 0.97, "student": ""}
    )
    assert opinions(sample) == ["Given **cat** · truly **dog**", "Teacher says **dog** (97 %)"]
    unknown = pd.Series({**sample, "true": "", "flipped": pd.NA})
    assert opinions(unknown)[0] == "Given **cat**"
