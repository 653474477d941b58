import io

import numpy as np
import pandas as pd
import pytest

from app.ui.selection import (
    ALL_CLASSES,
    SHOWS,
    SLICE,
    Selection,
    brushed_range,
    exported,
    gallery_groups,
    page_count,
    shows,
    to_bytes,
)


@pytest.fixture
def table() -> pd.DataFrame:
    """Ten samples, weight 0.0 to 0.9, ranks reversed; even ones are cats, 0..4 harmful, 0..2 and 9 flipped."""
    rows = range(10)
    return pd.DataFrame(
        {
            "id": [f"s{row}" for row in rows],
            "ref": ["Animals.parquet#" + "abcdefghij"[row] for row in rows],
            "given": ["cat" if row % 2 == 0 else "dog" for row in rows],
            "suggested": ["dog" if row in (0, 2) else "" for row in rows],
            "true": "cat",
            "flipped": pd.array([row in (0, 1, 2, 9) for row in rows], "boolean"),
            "verdict": ["harmful" if row < 5 else "helpful" if row > 7 else "neutral" for row in rows],
            "influence": [row - 5.0 for row in rows],
            "weight": [row / 10 for row in rows],
            "loss": 1.0,
            "teacher_loss": 2.0,
            "corrupted": pd.array([row == 6 for row in rows], "boolean"),
            "rank": [9 - row for row in rows],
        }
    )


def rows_of(selection: Selection, table: pd.DataFrame) -> list[int]:
    return list(selection.rows(table))


def test_everything_is_selected_at_first_most_harmful_first(table):
    assert rows_of(Selection(), table) == list(range(9, -1, -1))


def test_class_show_and_range_narrow_the_selection(table):
    assert rows_of(Selection(given="cat"), table) == [8, 6, 4, 2, 0]
    assert rows_of(Selection(show="Looks harmful", given="cat"), table) == [4, 2, 0]
    assert rows_of(Selection(low=0.2, high=0.4), table) == [4, 3, 2]
    assert rows_of(Selection(high=0.1), table) == [1, 0]
    assert rows_of(Selection(field="influence", low=3.0), table) == [9, 8]


@pytest.mark.parametrize(
    ("show", "rows"),
    [
        ("Flipped", [9, 2, 1, 0]),
        ("Missed: flipped, yet not judged harmful", [9]),
        ("False alarms: harmful, yet rightly labelled", [4, 3]),
        ("Looks helpful", [9, 8]),
        ("Corrupted inputs", [6]),
    ],
)
def test_shows(table, show, rows):
    assert rows_of(Selection(show=show), table) == rows


def test_unknown_flips_are_neither_missed_nor_false_alarms(table):
    table["flipped"] = pd.array([pd.NA] * 10, "boolean")
    assert [rows_of(Selection(show=show), table) for show in list(SHOWS)[3:6]] == [[], [], []]


def test_the_histogram_counts_what_the_range_leaves_out(table):
    assert Selection(given="dog", low=0.5).kept(table).sum() == 5


def test_an_open_range_is_no_range():
    assert Selection().range is None
    assert Selection(low=0.0).range == (0.0, float("inf"))


def test_a_small_selection_is_one_group(table):
    assert list(gallery_groups(np.arange(10), 1)) == ["Most harmful first"]


@pytest.mark.parametrize("size", [19, 36, 37, 100])
def test_pages_show_every_sample_once_from_both_ends(size):
    pages = [gallery_groups(np.arange(size), page) for page in range(1, page_count(size) + 1)]
    shown = [row for page in pages for group in page.values() for row in group]
    assert sorted(shown) == list(range(size))
    assert pages[0]["Most harmful"][0] == 0
    assert pages[0]["Most helpful"][0] == size - 1


def test_a_box_becomes_a_range_and_nothing_becomes_none():
    assert brushed_range({"selection": {"box": [{"x": [0.987, 0.1234], "y": [0, 1]}], "points": []}}) == (0.12, 0.99)
    assert brushed_range({"selection": {"box": [], "points": []}}) is None


def test_a_confusion_pair_words_and_a_saved_set_narrow_the_selection(table):
    assert rows_of(Selection(given="cat", rather="dog"), table) == [2, 0]
    assert rows_of(Selection(rather="cat"), table) == [8, 6, 4]
    assert rows_of(Selection(words="PARQUET#c"), table) == [2]
    assert rows_of(Selection(words="s7"), table) == [7]
    assert rows_of(Selection(words="("), table) == []
    assert rows_of(Selection(show=f"{SLICE}mine", members=np.array([1, 4, 99])), table) == [4, 1]


def test_another_order_may_be_asked_for(table):
    order = np.array([5.0, 4, 3, 2, 1, 0, np.nan, 7, 8, 9])
    assert list(Selection(high=0.6).rows(table, order)) == [5, 4, 3, 2, 1, 0, 6]
    assert list(gallery_groups(np.arange(10), 1, "Highest loss", "Lowest loss")) == ["Highest loss first"]


def test_only_what_is_known_can_be_shown(table):
    assert shows(table, ["mine"]) == [*SHOWS, "Slice: mine"]
    table["flipped"] = pd.array([pd.NA] * 10, "boolean")
    table["corrupted"] = pd.array([pd.NA] * 10, "boolean")
    assert shows(table, []) == list(SHOWS)[:3]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_leaves_has_known_columns_and_says_where_its_figures_come_from(table, kind):
    marks = pd.DataFrame({"row": [2, 4, 7], "label": ["dog", "", "cat"]})
    content = to_bytes(exported(table.iloc[Selection(given="cat").rows(table)], marks, "run-1", 7, 3), kind)
    read = pd.read_csv(io.BytesIO(content)).set_index("row") if kind == "csv" else pd.read_parquet(io.BytesIO(content))
    assert list(read.index) == [8, 6, 4, 2, 0]
    assert set(zip(read["run_id"], read["epoch"], read["seed"], strict=True)) == {("run-1", 7, 3)}
    assert list(read["predicted_label"]) == ["cat", "cat", "cat", "dog", "dog"]
    assert list(read["is_label_issue"]) == [False, False, True, True, True]
    assert list(read["label_quality"]) == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert list(read["marked"]) == [False, False, True, True, False]
    assert list(read["new_label"].fillna("")) == ["", "", "", "dog", ""]
    assert ALL_CLASSES not in content.decode(errors="ignore")


def test_without_influence_the_quality_is_the_teachers_probability(table):
    table["influence"] = np.nan
    found = exported(table, pd.DataFrame({"row": [], "label": []}), "r", 1, 0)
    np.testing.assert_allclose(found["label_quality"], np.exp(-2.0))
    assert set(found["new_label"]) == {""}
