"""Runs on sentences: what the samples page shows of them."""

import pytest
from streamlit.testing.v1 import AppTest

from app.ui.raters import agreement_words, raters_figure
from kdaif.runs.tables import sample_table
from tests.app.test_pages import gallery, opened
from tests.factories import sentence_run


def words_of(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.text, *app.caption, *app.markdown))


def test_sentences_are_listed_with_labels_and_raters(app: AppTest) -> None:
    table = sample_table(sentence_run())
    page = opened(app, "views/samples.py")
    lines = [line for group in gallery(page) for line in group["samples"]]
    assert len(lines) == 18
    assert all(line["image"] is None and len(line["sentences"]) == 1 for line in lines)
    assert lines[0]["row"] == table["rank"].idxmin()
    assert lines[0]["sentences"] == [table["text"][lines[0]["row"]]]
    assert lines[0]["raters"].startswith("people ")
    assert {lines[0]["marker"], lines[0]["suggested"]} == {"flipped", table["suggested"][lines[0]["row"]]}


def test_a_pair_stands_side_by_side_and_in_the_detail(app: AppTest) -> None:
    sentence_run(pairs=True)
    page = opened(app, "views/samples.py", sample="4")
    lines = [line for group in gallery(page) for line in group["samples"]]
    assert all(len(line["sentences"]) == 2 for line in lines)
    assert "A: A tedious film, number 4." in words_of(page)
    assert "B: It was the film number 4." in words_of(page)


def test_disagreement_of_the_raters_stands_beside_the_influence(app: AppTest) -> None:
    run = sentence_run()
    table = sample_table(run)
    said = agreement_words(table)
    assert said in words_of(opened(app, "views/samples.py"))
    assert said.startswith("60 samples were rated by several people.")
    figure = raters_figure(table)
    assert sum(len(trace.x) for trace in figure.data) == 60
    assert [trace.name for trace in figure.data] == ["harmful", "neutral", "helpful"]


@pytest.mark.parametrize("column", ["rating_spread", "influence"])
def test_without_raters_or_influence_there_is_nothing_to_compare(column: str) -> None:
    table = sample_table(sentence_run())
    assert agreement_words(table.assign(**{column: float("nan")})) == ""
