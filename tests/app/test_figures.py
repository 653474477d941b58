import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from app.ui.figures import (
    FADED,
    accuracy_figure,
    course_figure,
    curves_figure,
    dashes,
    gain_figure,
    histogram_figure,
    wrapped,
)
from app.ui.look import METHOD_COLORS


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


@pytest.fixture
def methods() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": ["Vanilla KD", "KD-AIF", "Oracle"],
            "method": ["kd", "kd-aif", "oracle"],
            "runs": [2, 2, 2],
            "mean": [0.80, 0.84, 0.85],
            "std": [0.01, 0.02, 0.01],
            "gain": [0.0, 0.04, 0.05],
            "gains": [{0: 0.0, 1: 0.0}, {0: 0.03, 1: 0.05}, {0: 0.05, 1: 0.05}],
            "oracle_gap_recovered": [None, 0.8, None],
        }
    )


def test_gain_bars_start_at_vanilla_kd_and_show_every_seed(methods):
    figure = gain_figure(methods)
    bars, seeds = trace(figure, "mean"), trace(figure, "seeds")
    assert_allclose(bars.x, [5, 4, 0])
    assert list(bars.y) == ["Oracle", "KD-AIF", "Vanilla KD"]  # the first method on top
    assert list(bars.marker.color) == [METHOD_COLORS["oracle"], METHOD_COLORS["kd-aif"], METHOD_COLORS["kd"]]
    assert sorted(zip(seeds.y, np.round(seeds.x, 6), strict=True))[:2] == [("KD-AIF", 3.0), ("KD-AIF", 5.0)]
    assert list(trace(figure, "figures").text) == ["<b>+5.0</b><br>85.0 %", "<b>+4.0</b><br>84.0 %", "80.0 %"]


def test_gain_leaves_out_methods_without_a_counterpart(methods):
    methods.loc[2, "gain"] = None
    assert list(trace(gain_figure(methods), "mean").y) == ["KD-AIF", "Vanilla KD"]


def test_accuracy_shows_mean_deviation_and_seeds(methods):
    runs = pd.DataFrame({"label": ["KD-AIF", "KD-AIF", "CE"], "seed": [0, 1, 0], "state": ["done", "failed", "done"]})
    figure = accuracy_figure(methods, runs.assign(test_accuracy=[0.82, 0.1, 0.5]))
    assert_allclose(trace(figure, "seeds").x, [82])
    assert_allclose(trace(figure, "mean").x, [85, 84, 80])
    assert_allclose(trace(figure, "mean").error_x.array, [1, 2, 1])
    assert trace(figure, "figures").text[1] == "<b>84.0</b> ± 2.0<br> "


def test_curves_draw_mean_and_range_in_the_order_of_methods():
    curves = pd.DataFrame(
        {
            "label": ["Oracle", "Oracle", "KD-AIF", "KD-AIF"],
            "method": ["oracle", "oracle", "kd-aif", "kd-aif"],
            "seed": [0, 1, 0, 1],
            "epoch": [1, 1, 1, 1],
            "test_accuracy": [0.5, 0.7, 0.2, 0.4],
        }
    )
    band, line, _, oracle = curves_figure(curves).data
    assert (line.name, oracle.name) == ("KD-AIF", "Oracle")
    assert_allclose(line.y, [30])
    assert_allclose(band.y, [40, 20])


def test_histogram_counts_every_measured_sample_once_and_fades_what_is_not_chosen():
    values = np.array([0.0, 0.1, 1.0, 1.1, np.nan])
    verdicts = np.array(["harmful", "harmful", "helpful", "neutral", "neutral"])
    figure = histogram_figure(values, verdicts, "weight", (0.0, 0.5), bins=11)
    assert sum(bars.y.sum() for bars in figure.data) == 4
    assert trace(figure, "▼ harmful").y.sum() == 2
    opacity = trace(figure, "▲ helpful").marker.opacity
    assert opacity[0] == opacity[4] > FADED
    assert_array_equal(opacity[5:], FADED)
    everything = histogram_figure(values, verdicts, "weight", None)
    assert (trace(everything, "▼ harmful").marker.opacity > FADED).all()


def test_histogram_is_small_at_a_million_samples():
    rng = np.random.default_rng(0)
    values = rng.normal(size=1_000_000)
    figure = histogram_figure(values, np.where(values < 0, "harmful", "helpful"), "influence", None)
    assert len(figure.to_json()) < 20_000


def test_the_course_shows_every_field_before_its_crowd():
    crowd = np.linspace(0, 2, 11)
    values = np.column_stack([[1.0, 0.5, 0.2], np.tile(crowd, (3, 1))])
    figure = course_figure([1, 2, 5], {"weight": values, "loss": 2 * values}, 2, "all given cat")
    band, middle, own, lower_band, _, lower = figure.data[:6]
    assert list(own.y) == [1.0, 0.5, 0.2]
    assert list(lower.y) == [2.0, 1.0, 0.4]
    assert list(middle.y) == [pytest.approx(value) for value in np.median(values, axis=1)]
    assert band.name == "80 % of all given cat"
    assert max(lower_band.y) == pytest.approx(2 * max(band.y))
    assert [trace.showlegend for trace in figure.data] == [True, False, True] + [False] * 3
    assert [note.text for note in figure.layout.annotations] == ["weight", "loss"]


def test_long_names_are_wrapped_and_variants_of_a_method_told_apart():
    long = "KD-AIF (temperature 4.0, apply_to relabel)"
    assert wrapped("Vanilla KD") == "Vanilla KD"
    assert wrapped(long).replace("<br>", " ") == long
    assert max(map(len, wrapped(long).split("<br>"))) <= 22
    methods = {"KD-AIF": "kd-aif", long: "kd-aif", "Oracle": "oracle", "Vanilla KD": "kd"}
    drawn = dashes(list(methods), methods)
    assert drawn == {"KD-AIF": "solid", long: "dash", "Oracle": "dot", "Vanilla KD": "solid"}
