"""The dynamics page, and the selection that comes along from page to page."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kdaif.runs import open_run
from kdaif.runs.tables import sample_table
from tests.app.test_pages import chart, headline, newest, opened
from tests.factories import digits_run

PAGE, SAMPLES = "views/dynamics.py", "views/samples.py"


def names(app, key: str) -> list[str]:
    return [trace["name"] for trace in chart(app, key)["data"]]


def test_the_sentence_says_when_the_verdicts_were_made(app, demo):
    opened(app, PAGE)
    run = open_run(newest("kd-aif"))
    now, half = (run.epoch(number)["weight"] < 0.5 for number in (4, 2))
    assert headline(app) == (
        f"{now.sum()} of 1,200 samples look harmful after epoch 4; {100 * half[now].mean():.0f} % of them already did after "
        "epoch 2."
    )


def test_all_pictures_are_there_and_say_what_they_show(app, demo):
    opened(app, PAGE)
    assert names(app, "courses")[1::2] == ["harmful", "neutral", "helpful"]
    assert names(app, "map of weight") == ["▼ harmful", "● neutral", "▲ helpful"]
    assert names(app, "map of confidence") == names(app, "map of weight")
    assert all(element.proto.alt for element in app.get("plotly_chart"))
    assert app.get("download_button")[0].proto.label == "Export 1,200 samples"


def test_the_classic_map_is_the_probability_of_the_given_label(app, demo):
    opened(app, PAGE, sample="7")
    run = open_run(newest("kd-aif"))
    confidence = np.exp(-run.trajectories("loss", [7]))[:, 0]
    ring = chart(app, "map of confidence")["data"][-1]
    assert ring["name"] == "this sample"
    assert_allclose([ring["y"][0], ring["x"][0]], [confidence.mean(), confidence.std()], rtol=1e-4, atol=1e-6)


def test_a_selection_is_drawn_against_the_rest_and_counted(app, demo):
    opened(app, PAGE)
    app.selectbox(key="show").select("Looks harmful").run()
    expected = int((sample_table(open_run(newest("kd-aif")))["verdict"] == "harmful").sum())
    assert names(app, "courses")[1::2] == ["rest", "selection"]
    assert names(app, "map of weight") == ["not selected", "▼ harmful"]
    assert app.get("download_button")[0].proto.label == f"Export {expected:,} samples"
    assert len(app.dataframe[0].value) == expected


def test_influence_has_its_own_maps(app, demo):
    opened(app, PAGE, field="Influence")
    assert names(app, "map of influence")
    assert "influence" in chart(app, "heat")["layout"]["yaxis"]["title"]["text"]


def test_a_click_on_a_point_picks_the_sample(app, demo):
    opened(app, PAGE)
    app.session_state["map of weight"] = {"selection": {"points": [{"customdata": [11]}], "box": [], "lasso": []}}
    app.run()
    assert not app.exception


def test_a_run_whose_weights_stand_still_shows_its_confidence(app, demo):
    opened(app, PAGE, run=newest("kd"))
    assert re.fullmatch(
        r"Vanilla KD leaves the weights of all 1,200 samples as they are; its confidence in the given labels \w+ from \d+ % to "
        r"\d+ %\.",
        headline(app),
    )
    assert "confidence" in chart(app, "heat")["layout"]["yaxis"]["title"]["text"]
    assert len(app.get("plotly_chart")) == 3


@pytest.mark.parametrize("method", ["kd-aif", "kd"])
def test_one_epoch_is_enough(app, method):
    digits_run(method, epochs=5, recorded=1)
    opened(app, PAGE)
    assert "epoch" in headline(app)


def test_nothing_selected_is_said(app, demo):
    opened(app, PAGE)
    app.number_input(key="from").set_value(50.0).run()
    assert app.info[0].value == "No sample is selected: widen the filters or clear the range."
    assert not app.exception


def test_selection_and_sample_come_along_from_page_to_page(app, demo):
    opened(app, SAMPLES, run=newest("oracle"))
    app.selectbox(key="class").select("digit 3")
    app.number_input(key="to").set_value(0.8)
    app.number_input(key="sample").set_value(7)
    app.select_slider(key="epoch").set_value(2).run()
    app.switch_page(PAGE).run()
    assert not app.exception
    assert not app.warning
    assert app.selectbox(key="run").value == newest("oracle")
    assert app.selectbox(key="class").value == "digit 3"
    assert app.number_input(key="to").value == 0.8
    assert app.number_input(key="sample").value == 7
    assert app.select_slider(key="epoch").value == 2
    app.button(key="clear").click().run()
    app.switch_page(SAMPLES).run()
    assert app.number_input(key="to").value is None
    assert app.selectbox(key="class").value == "digit 3"
