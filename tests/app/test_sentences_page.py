"""Runs on sentences: what the samples page shows of them."""

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.ui.raters import agreement_words, raters_figure
from kdaif.explain import explain
from kdaif.runs import Run, cache_root, open_run
from kdaif.runs.tables import sample_table
from kdaif.train import train_new
from tests.app.test_pages import gallery, opened
from tests.factories import sentence_run
from tests.sentences import small_text, write_sentences


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on sentences that was really trained."""
    folder = tmp_path_factory.mktemp("films")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDAIF_CACHE", str(folder / "cache"))
        source = write_sentences(folder / "data")
        return Run(Path(train_new(small_text(source, "teacher.optim.epochs=4"))["run_dir"]))


@pytest.fixture
def films(learnt: Run) -> Run:
    """The same in this test's cache folder."""
    shutil.copytree(learnt.path.parent.parent, cache_root(), dirs_exist_ok=True)
    return open_run(learnt.id)


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


def test_words_are_coloured_when_it_is_asked_for_in_the_panel_and_in_the_list(app: AppTest, films: Run) -> None:
    row = int(sample_table(films)["rank"].idxmin())
    opened(app, "views/samples.py", sample=str(row), room="Words")
    assert not app.get("html")
    assert not any(line["painted"] for group in gallery(app) for line in group["samples"])
    app.button(key="explain").click().run()
    assert not app.exception
    student, teacher = (element.proto.body for element in app.get("html"))
    target = films.classes().index(app.selectbox(key="why").value)
    text = films.samples()["text"][row]
    found = {name: explain(films, row, name, "integrated-gradients", target) for name in ("student", "teacher")}
    for html, one in ((student, found["student"]), (teacher, found["teacher"])):
        for word, value in zip(one.words, one.of_words(), strict=True):
            shown = f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
            assert f'title="{shown}"' in html
            assert text[word.start : word.end] in html
    said = words_of(app)
    assert "special tokens +0.00; the logit is" in said
    assert "for: " in said
    painted = {line["row"]: line["painted"] for group in gallery(app) for line in group["samples"]}
    assert "".join(span["text"] for span in painted.pop(row)[0]) == text
    assert not any(painted.values())
    app.number_input(key="sample").set_value(row + 1).run()
    assert not app.get("html")


def test_neighbours_of_a_sentence_are_sentences(app: AppTest, films: Run) -> None:
    opened(app, "views/samples.py", sample="3", room="Neighbours")
    app.button(key="find_neighbours").click().run()
    assert not app.exception
    assert not app.error


def test_sentences_that_nobody_kept_a_network_of_say_so(app: AppTest) -> None:
    sentence_run()
    opened(app, "views/samples.py", room="Words")
    app.button(key="explain").click().run()
    assert not app.exception
    assert app.error[0].value.endswith(".")
