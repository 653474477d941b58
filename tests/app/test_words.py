import pandas as pd
import pytest

from app.ui.detail import opinions
from app.ui.look import duration, percent, points
from app.ui.sentences import compare_sentence, overview_sentence, samples_sentence

COUNTS = {"samples": 1200, "harmful": 412, "flipped": 480, "precision": 0.94, "recall": 0.81}


def methods(*labels: str) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "label": ["Vanilla KD", "KD-AIF", "Oracle"],
            "method": ["kd", "kd-aif", "oracle"],
            "runs": [3, 3, 3],
            "mean": [0.795, 0.8262, 0.835],
            "gain": [0.0, 0.0312, 0.04],
            "oracle_gap_recovered": [None, 0.78, None],
        }
    )
    return table[table["label"].isin(labels)]


def plain(sentence: str) -> str:
    """The sentence without its colours."""
    return pd.Series([sentence]).str.replace(r":color\[(.*?)\]\{.*?\}", r"\1", regex=True)[0]


def test_overview_says_what_was_gained_and_found():
    assert plain(overview_sentence(methods("Vanilla KD", "KD-AIF", "Oracle"), COUNTS)) == (
        "KD-AIF recovered 78 % of what a perfect label cleaner would gain. "
        "412 of 1,200 samples look harmful, 94 % of them rightly."
    )


def test_overview_says_less_where_less_is_known():
    alone = methods("KD-AIF").assign(gain=None, oracle_gap_recovered=None)
    assert plain(overview_sentence(alone, {**COUNTS, "precision": None})) == (
        "KD-AIF reached 82.6 % test accuracy; there is no vanilla KD run to measure it against yet. "
        "412 of 1,200 samples look harmful."
    )
    pair = methods("Vanilla KD", "KD-AIF").assign(oracle_gap_recovered=None)
    assert plain(overview_sentence(pair, None)) == "KD-AIF reached 82.6 % test accuracy, 3.1 points above vanilla KD."
    assert overview_sentence(methods("Vanilla KD"), None) == "No KD-AIF run of this experiment has finished yet."


def test_a_loss_is_called_a_loss():
    worse = methods("Vanilla KD", "KD-AIF", "Oracle").assign(gain=-0.01, oracle_gap_recovered=-0.25)
    assert "1.0 point below vanilla KD" in plain(overview_sentence(worse, None))


def test_compare_places_kd_aif_between_the_two():
    assert plain(compare_sentence(methods("Vanilla KD", "KD-AIF", "Oracle"))) == (
        "KD-AIF reaches 82.6 % on the test set, 3.1 points above vanilla KD and 0.9 points below the oracle (mean of 3 seeds)."
    )


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
