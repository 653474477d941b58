"""The robustness page on runs of one family: two noise rates, two seeds."""

import re
import shutil

import pytest

from app.ui.store import noise_table
from kdaif.runs import cache_root, list_runs
from kdaif.runs.tables import run_table
from tests.app.test_pages import chart, fresh, headline, newest, opened
from tests.factories import demo_runs, digits_run

PAGE = "views/robustness.py"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A cache folder with the demo's runs and the same at 20 % noise."""
    cache = tmp_path_factory.mktemp("swept")
    for method in ("kd", "oracle", "kd-aif"):
        digits_run(method, 0, 2, noise=0.2, root=cache / "runs")
    demo_runs(cache / "runs", seeds=2, epochs=2)
    return cache


@pytest.fixture
def sweep(swept):
    return shutil.copytree(swept, cache_root(), dirs_exist_ok=True)


def test_the_sentence_says_what_wrong_labels_cost(app, sweep):
    opened(app, PAGE)
    assert re.fullmatch(
        r"From 20 % to 40 % wrong labels KD-AIF changes by 0\.0 points, vanilla KD changes by 0\.0 points \(one seed\); "
        r"KD-AIF recovers \d+ % of the oracle gap there \(mean of 2 seeds\)\.",
        headline(app),
    )  # the made-up accuracies differ between seeds, not between rates


def test_all_pictures_and_tables_are_there(app, sweep):
    opened(app, PAGE)
    assert [trace["name"] for trace in chart(app, "rates")["data"]][2::3] == ["Vanilla KD", "KD-AIF", "Oracle"]
    found = [trace["name"] for trace in chart(app, "detection")["data"]]
    assert found[0] == "Influence"
    assert found[-2:] == ["chance", "perfect"]
    assert [metric.label for metric in app.metric] == ["RGR", "Spearman", "Kendall tau", "Top-100 overlap"]
    assert chart(app, "overlap")["data"][1]["name"] == "chance, k / n"
    assert all(element.proto.alt for element in app.get("plotly_chart"))
    seeds = opened(fresh(), PAGE, ranked="Stability over seeds")
    assert chart(seeds, "stability")["data"][0]["x"] == ["seed 0", "seed 1"]
    assert all(element.proto.alt for element in seeds.get("plotly_chart"))
    figures = opened(fresh(), PAGE, ranked="Figures").dataframe[0].value
    assert list(figures["Wrong labels"].round()) == [20] * 3 + [40] * 3
    assert figures["Runs"].to_list() == [1] * 3 + [2] * 3
    assert "Std, points" in figures


def test_the_other_run_is_chosen_and_shared(app, sweep):
    opened(app, PAGE)
    options = app.selectbox(key="against").options
    assert len(options) == 2
    app.selectbox(key="against").select_index(1).run()
    assert not app.exception
    assert app.query_params["against"]


def test_a_run_without_influence_has_baselines_but_no_ranks(app, sweep):
    opened(app, PAGE, run=newest("kd"))
    found = [trace["name"] for trace in chart(app, "detection")["data"]]
    assert "Influence" not in found
    assert "Mean loss" in found
    assert any("needs two KD-AIF runs" in caption.value for caption in app.caption)


def test_one_run_alone_says_what_is_missing(app):
    digits_run("kd-aif", epochs=2)
    opened(app, PAGE)
    assert re.fullmatch(r"At 40 % wrong labels KD-AIF reaches [\d.]+ % \(one seed\)\.", headline(app))
    assert any("needs two KD-AIF runs" in caption.value for caption in app.caption)
    seeds = opened(fresh(), PAGE, ranked="Stability over seeds")
    assert any("two seeds or more" in caption.value for caption in seeds.caption)


def test_unknown_wrong_labels_are_said(app):
    digits_run("kd-aif", epochs=2, known=False)
    opened(app, PAGE)
    assert any("nothing can be counted" in caption.value for caption in app.caption)


def test_a_live_run_has_detection_before_it_has_a_result(app):
    digits_run("kd-aif", epochs=5, recorded=2)
    opened(app, PAGE)
    assert headline(app) == "No run on these data and networks has finished yet."
    assert chart(app, "detection")["data"]


def test_families_join_noise_rates_and_keep_settings_apart():
    digits_run("kd-aif", epochs=1, noise=0.2)
    digits_run("kd-aif", epochs=1, noise=0.4)
    digits_run("kd-aif", epochs=2, noise=0.4)
    table = run_table(list_runs())
    assert table["experiment"].nunique() == 3
    assert table.groupby("epochs")["family"].nunique().to_list() == [1, 1]
    assert table["family"].nunique() == 2


def test_the_noise_table_gives_the_gap_to_what_lies_between(sweep):
    runs = run_table(list_runs())
    table = noise_table(runs).set_index(["noise", "method"])["oracle_gap_recovered"]
    assert table[0.4, "kd-aif"] > 0
    assert table[:, "kd"].isna().all()
    assert noise_table(runs.iloc[:0]).empty
