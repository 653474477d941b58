import numpy as np
import pandas as pd
from numpy.testing import assert_allclose

from app.ui.look import METHOD_COLORS
from app.ui.robustness_figures import detection_figure, noise_figure, overlap_figure, stability_figure


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_accuracy_by_noise_shows_means_ranges_and_seeds():
    table = pd.DataFrame({"label": ["KD-AIF"] * 2, "method": "kd-aif", "noise": [0.4, 0.0], "mean": [0.8, 0.9]})
    runs = pd.DataFrame({"label": "KD-AIF", "noise": [0.0, 0.0, 0.4, 0.4], "seed": [0, 1, 0, 1]})
    figure = noise_figure(table, runs.assign(test_accuracy=[0.88, 0.92, 0.7, 0.9]))
    line = trace(figure, "KD-AIF")
    assert_allclose(line.x, [0, 40])
    assert_allclose(line.y, [90, 80])
    assert line.line.color == METHOD_COLORS["kd-aif"]
    assert_allclose(trace(figure, "KD-AIF, range").y, [92, 90, 70, 88])
    assert_allclose(trace(figure, "KD-AIF, seeds").y, [88, 92, 70, 90])


def test_detection_curves_stand_between_chance_and_perfect():
    curves = pd.DataFrame(
        {"detector": ["influence"] * 2 + ["student_influence"] * 2, "inspected": [0, 1] * 2, "found": [0, 1] * 2}
    )
    figure = detection_figure(curves, 0.4)
    assert [trace.name for trace in figure.data] == ["Influence", "chance", "perfect"]
    assert_allclose(trace(figure, "Influence").y, [0, 100])
    assert_allclose(trace(figure, "perfect").x, [0, 40, 100])


def test_overlap_marks_chance():
    figure = overlap_figure(pd.DataFrame({"k": [1, 10], "overlap": [1.0, 0.8], "chance": [0.01, 0.1]}))
    assert_allclose(trace(figure, "shared").y, [100, 80])
    assert_allclose(trace(figure, "chance, k / n").y, [1, 10])


def test_stability_is_a_symmetric_square():
    pairs = pd.DataFrame({"first": [0, 0, 1], "second": [1, 2, 2], "spearman": [0.9, 0.8, 0.7]})
    (cells,) = stability_figure(pairs).data
    square = np.asarray(cells.z)[::-1]
    assert_allclose(square, [[1, 0.9, 0.8], [0.9, 1, 0.7], [0.8, 0.7, 1]])
    assert list(cells.x) == ["seed 0", "seed 1", "seed 2"]
