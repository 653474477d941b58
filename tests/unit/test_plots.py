"""The plots of docs/results.md say what its tables say."""

import pytest

from tests.e2e.plots import PLOTS, Figure, by_noise, figure_of, tables

TEXT = """# Results

## One thing

| a | b |
|---|---|
| **x** | 1.0 ± 0.5 |
| y | |

## Another

text
"""


def test_a_table_is_read_by_its_columns():
    assert tables("One", TEXT) == [[{"a": "x", "b": "1.0 ± 0.5"}, {"a": "y", "b": ""}]]
    assert tables("Another", TEXT) == []
    with pytest.raises(KeyError):
        tables("Nowhere", TEXT)


def test_a_cell_is_a_mean_and_a_deviation():
    assert figure_of("1.0 ± 0.5") == (1.0, 0.5)
    assert figure_of("0.944 0.942 0.940") == pytest.approx(Figure(0.942, 0.002))
    assert figure_of("1.18") == (1.18, 0.0)
    assert figure_of("") is None
    assert figure_of("–") is None


def test_accuracies_stand_under_their_noise_rate():
    found = by_noise()
    for methods in found.values():
        assert list(methods) == ["vanilla KD", "KD-AIF", "oracle"]
        assert {40.0, 60.0} <= set(methods["vanilla KD"]) & set(methods["oracle"])
        assert all(0 < point.mean < 100 for points in methods.values() for point in points.values())
    assert set(found["digits, 5 seeds"]["KD-AIF"]) == {0.0, 20.0, 40.0, 60.0}


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_has_its_figures(name):
    figure = PLOTS[name]()
    values = [value for trace in figure.data for value in (trace.x if trace.orientation == "h" else trace.y)]
    assert len(values) >= 6
