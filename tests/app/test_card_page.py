"""The SAFE card: its figures are those of the run, and it measures what it lacks."""

import pytest

from app.ui.card import card_table, shown
from app.ui.sentences import card_sentence
from kdaif.card import measure_card
from tests.app.test_detail_page import real as real
from tests.app.test_pages import headline, opened
from tests.factories import digits_run

PAGE = "views/card.py"


def figures(run, watts=65):
    table = card_table(run, watts)
    return dict(zip(table["figure"], table["value"], strict=True))


def test_what_is_known_stands_there_before_anything_is_measured():
    run = digits_run("kd-aif", epochs=2)
    found = figures(run)
    last = run.metrics()["class_accuracy"].iloc[-1]
    assert found["Test accuracy"] == run.result()["test_accuracy"]
    assert found["Accuracy gap"] == pytest.approx(100 * (max(last) - min(last)))
    assert card_table(run, 65).set_index("figure").loc["Accuracy gap", "unit"] == "points"
    assert found["Energy, estimated"] == pytest.approx(9.0 * 65 / 3.6e6)
    assert figures(run, 130)["Energy, estimated"] == pytest.approx(2 * found["Energy, estimated"])
    assert "RGA" not in found
    assert not [name for name in found if name.startswith("RGR")]


def test_the_measured_card_holds_its_figures_in_their_ranges(real):
    said = []
    card = measure_card(real, say=lambda share, what: said.append(share))
    assert said == sorted(said)
    found = figures(real)
    assert 0 <= found["RGA"] == card["rga"] <= 1
    assert set(card["robustness"]) == {"gaussian", "blur", "occlusion"}
    assert all(0 <= part["rgr"] <= 1 and 0 <= part["accuracy"] <= 1 for part in card["robustness"].values())
    assert len(card["parts"]) == 9
    assert max(card["parts"]) > 0.01
    assert 0 <= found["RGR gap"] <= 1
    assert found["Time an image"] > 0
    assert found["Speed-up"] == pytest.approx(card["milliseconds"]["teacher"] / card["milliseconds"]["student"])


def test_the_card_of_sentences_speaks_of_words():
    run = digits_run("kd-aif", epochs=2)
    damage = {"rgr": 0.9, "top": 0.8, "stays": 0.9, "accuracy": 0.75}
    card = {"rga": 0.9, "robustness": {"drop": damage}, "parts": [0.1, 0.3, 0.2], "input": "sentence"}
    run.write_notes(
        "card", card | {"fairness": {"robustness_gap": 0.05}, "milliseconds": {"student": 1.0, "teacher": 2.0}}
    )
    table = card_table(run, 65)
    found = figures(run)
    assert (found["RGR under left-out words"], found["Accuracy under left-out words"]) == (0.9, 0.75)
    assert (found["Highest RGE"], found["Mean RGE"]) == (0.3, pytest.approx(0.2))
    assert (found["RGR gap"], found["Time a sentence"]) == (0.05, 1.0)
    assert "75 % under left-out words" in card_sentence(table).replace("\u00a0", " ")
    assert not table["meaning"].str.contains("image").any()


def test_the_page_measures_at_a_button_and_then_shows_it(app, real):
    opened(app, PAGE, run=real.id)
    assert "RGA" not in [metric.label for metric in app.metric]
    app.button(key="measure_card").click().run()
    assert not app.exception
    assert "RGA" in [metric.label for metric in app.metric]
    assert "measure_card" not in [button.key for button in app.button]
    assert "under noise" in headline(app)
    assert app.get("download_button")


def test_figures_are_spelled_for_people():
    assert shown(0.4567, "share") == "45.7\u00a0%"
    assert shown(45.91, "points") == "45.9\u00a0points"
    assert shown(75290, "") == "75,290"
    assert shown(0.51234, "0–1, chance 0.5") == "0.512"
    assert shown(0.0012, "kWh") == "0.0012\u00a0kWh"
    assert shown(1234.5, "s") == "1,234\u00a0s"
