"""Chosen runs beside a reference run."""

import numpy as np
import pandas as pd
import pytest

from app.ui.look import HARMFUL, HELPFUL
from app.ui.side_by_side import (
    class_accuracies,
    classes_figure,
    confusion,
    confusion_figure,
    confusion_pairs,
    costs,
    names_of,
    ranks,
)
from kdaif.runs.tables import sample_table
from tests.app.test_pages import chart, opened
from tests.factories import digits_run

PAGE = "views/compare.py"


@pytest.fixture
def runs():
    return names_of([digits_run(method, epochs=2) for method in ("kd", "kd-aif")], ["Vanilla KD", "KD-AIF"])


def test_classes_are_differences_to_the_first_run_the_greatest_first(runs):
    accuracies = class_accuracies(runs)
    (bars,) = classes_figure(accuracies).data
    kd, aif = (accuracies[name] for name in runs)
    expected = (100 * (aif - kd)).sort_values(ascending=False)
    assert list(bars.x) == list(expected.index)
    np.testing.assert_allclose(bars.y, expected)
    assert list(bars.marker.color) == [HELPFUL if value >= 0 else HARMFUL for value in expected]
    three = accuracies.assign(third=0.5)
    assert [trace.name for trace in classes_figure(three).data] == [*list(runs)[1:], "third"]


def test_a_confusion_is_shares_of_the_true_class(runs):
    run = runs[next(iter(runs))]
    shares = confusion(run)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    samples, said = run.samples(), run.epoch()["student_prediction"]
    of_three = said[samples["clean"] == 3]
    assert shares.loc["digit 3", "digit 3"] == pytest.approx((of_three == 3).mean())


def test_more_on_the_diagonal_is_better_and_more_beside_it_worse():
    difference = pd.DataFrame([[0.2, -0.2], [0.1, -0.1]], index=["a", "b"], columns=["a", "b"])
    (heat,) = confusion_figure(difference).data
    np.testing.assert_allclose(np.array(heat.z)[::-1], [[0.2, 0.2], [-0.1, -0.1]], rtol=1e-6)
    assert list(confusion_pairs(difference)["Points"].abs()) == pytest.approx([20, 20, 10, 10])
    first = confusion_pairs(difference).iloc[-1]
    assert (first["Truly"], first["Taken for"], first["Points"]) in {("b", "b", -10.0), ("b", "a", 10.0)}


def test_ranks_are_those_of_the_same_sample_and_the_open_one_stands_on_top(runs):
    table = ranks(runs, 17)
    names = list(runs)
    assert table["id"][0] == "digits/train/000017"
    kd, aif = (sample_table(run) for run in runs.values())
    assert table[names[0]][0] == kd["rank"][17] + 1
    assert table[names[1]][0] == aif["rank"][17] + 1
    assert table["shift"][1:].abs().is_monotonic_decreasing
    assert len(ranks(runs, None)) == 200
    assert ranks(runs, 10**6)["shift"].abs().is_monotonic_decreasing


def test_costs_say_what_the_compression_bought(runs):
    run = next(iter(runs.values()))
    run.add_provenance(student_parameters=1000, teacher_parameters=4000, teacher_test_accuracy=0.9)
    run.write_notes("card", {"milliseconds": {"student": 0.1, "teacher": 0.3}})
    first, second = costs(runs).to_dict("records")
    assert first["Times smaller"] == 4
    assert first["Times faster"] == pytest.approx(3)
    assert first["Teacher's accuracy"] == pytest.approx(90)
    assert np.isnan(second["Times smaller"])


@pytest.mark.parametrize("tab", ["Confusions", "Ranks", "Size and speed", "Settings that differ"])
def test_every_tab_opens_by_its_link(app, demo, tab):
    opened(app, PAGE, compared=tab)
    assert not app.error
    assert app.dataframe or chart(app, "confusion")


def test_the_first_chosen_run_is_the_reference(app, demo):
    opened(app, PAGE)
    names = app.multiselect(key="runs").value
    app.multiselect(key="runs").set_value(names[::-1]).run()
    plain = [name.replace(" ", "") for name in names[-2::-1]]
    assert [trace["name"].replace("<br>", "").replace(" ", "") for trace in chart(app, "classes")["data"]] == plain
    app.multiselect(key="runs").set_value(names[:1]).run()
    assert any("needs a finished run" in caption.value for caption in app.caption)
