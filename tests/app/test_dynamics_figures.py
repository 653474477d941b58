import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from app.ui.dynamics_figures import bands_figure, heat_figure, map_figure
from app.ui.look import ACCENT, HARMFUL, HELPFUL, NEUTRAL
from kdaif.metrics.dynamics import Heat


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_heat_map_shows_shares_and_marks_epoch_and_neutral():
    spread = Heat(np.array([0.0, 1, 2]), np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]))
    figure = heat_figure([1, 2, 5], spread, "weight", 2)
    (cells,) = figure.data
    assert_allclose(cells.x, [1, 2, 5])
    assert_allclose(cells.y, [0.5, 1.5])
    assert_allclose(cells.customdata, [[25, 100, 50], [75, 0, 50]])
    assert_allclose(np.square(cells.z) * 100, cells.customdata, atol=1e-4)
    assert [(shape.x0, shape.y0) for shape in figure.layout.shapes] == [(2, 0), (0, 1)]


def test_bands_draw_each_group_in_its_colour_and_the_sample_last():
    groups = pd.DataFrame(
        {
            "group": ["rest"] * 2 + ["selection"] * 2,
            "epoch": [1, 2] * 2,
            "low": [0, 1, 2, 3],
            "middle": [1, 2, 3, 4],
            "high": [2, 3, 4, 5],
        }
    )
    figure = bands_figure([1, 2], groups, {"rest": NEUTRAL, "selection": ACCENT}, np.array([7.0, 8.0]), "weight", 2)
    assert_allclose(trace(figure, "selection").y, [3, 4])
    assert_allclose(trace(figure, "rest, 10–90 %").y, [2, 3, 1, 0])
    assert trace(figure, "rest").line.color == NEUTRAL
    assert figure.data[-1].name == "this sample"
    assert_allclose(figure.data[-1].y, [7, 8])


@pytest.fixture
def points() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "verdict": ["harmful", "helpful", "neutral", "harmful"],
            "selected": [True, True, False, False],
            "confidence_mean": [0.1, 0.9, 0.5, 0.2],
            "confidence_std": [0.01, 0.02, 0.3, 0.04],
        },
        index=[4, 7, 8, 9],
    )


def test_data_map_colours_what_is_selected_and_greys_the_rest(points):
    figure = map_figure(points, "confidence", 7)
    assert [trace.name for trace in figure.data] == ["not selected", "▼ harmful", "▲ helpful", "this sample"]
    grey, harmful, helpful, ring = figure.data
    assert list(grey.customdata) == [8, 9]
    assert (list(harmful.customdata), harmful.marker.color) == ([4], HARMFUL)
    assert (list(helpful.customdata), helpful.marker.color) == ([7], HELPFUL)
    assert_allclose([harmful.x[0], harmful.y[0]], [0.01, 0.1])
    assert (ring.x[0], ring.y[0]) == (0.02, 0.9)
    assert [note.text for note in figure.layout.annotations][1] == "<b>ambiguous</b>"


def test_data_map_without_a_primary_sample_has_no_ring(points):
    assert "this sample" not in [trace.name for trace in map_figure(points, "confidence", None).data]


def test_data_map_of_5000_points_is_small():
    rng = np.random.default_rng(0)
    points = pd.DataFrame({"verdict": "neutral", "selected": True, "weight_mean": rng.random(5000), "weight_std": 0.1})
    assert len(map_figure(points, "weight", None).to_json()) < 200_000
