"""Runs whose labels are numbers: every page shows them, and none speaks of classes."""

import pytest
from streamlit.testing.v1 import AppTest

from app.ui.act import KEEP, LEAVE
from app.ui.card import card_table
from app.ui.sentences import card_sentence
from app.ui.sorting import offered
from kdaif.runs.tables import sample_table
from tests.app.test_pages import gallery, opened
from tests.app.test_sentences_page import words_of
from tests.factories import number_run


@pytest.mark.parametrize("page", ["overview", "samples", "dynamics", "robustness", "compare", "card", "experiments"])
def test_every_page_shows_them(app: AppTest, page: str) -> None:
    for _ in range(2):
        number_run()
    opened(app, f"views/{page}.py")


def test_samples_are_told_by_their_numbers(app: AppTest) -> None:
    run = number_run()
    table = sample_table(run)
    page = opened(app, "views/samples.py", sample="3")
    lines = [line for group in gallery(page) for line in group["samples"]]
    assert {line["given"] for line in lines} <= set(table["given"])
    row = table.iloc[3]
    said = words_of(page)
    assert f"Given **{row['given']}** · truly **{row['true']}**" in said
    assert f"Teacher says **{row['teacher']}**\n" in said.replace("  \n", "\n")
    assert not {"Uncertainty", "Mean uncertainty"} & set(offered(table))
    given = next(box for box in page.selectbox if box.label == "Given label")
    assert given.options == ["All classes"]


def test_the_teachers_number_is_offered_in_a_labels_place(app: AppTest) -> None:
    table = sample_table(number_run())
    row = int(table.index[table["suggested"] != ""][0])
    page = opened(app, "views/samples.py", sample=str(row), room="Act")
    box = next(box for box in page.selectbox if box.label == "What to do with this sample")
    assert box.options == [KEEP, LEAVE, f"Relabel as {table['suggested'][row]}, as the teacher says"]


@pytest.mark.parametrize("tab", ["By class", "Confusions", "Ranks", "Size and speed"])
def test_compare_confuses_no_numbers(app: AppTest, tab: str) -> None:
    for _ in range(2):
        number_run()
    page = opened(app, "views/compare.py", compared=tab)
    assert ("are not confused as classes are" in words_of(page)) == (tab == "Confusions")


def test_the_card_says_what_its_accuracy_is() -> None:
    table = card_table(number_run(), 65)
    assert "correlate with the test labels to" in card_sentence(table)
    assert not table["figure"].str.startswith("Worst class").any()
