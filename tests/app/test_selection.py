import io

import pandas as pd
import pytest

from app.ui.selection import ALL_CLASSES, SHOWS, Selection, brushed_range, gallery_groups, page_count, to_csv


@pytest.fixture
def table() -> pd.DataFrame:
    """Ten samples, weight 0.0 to 0.9, ranks reversed; even ones are cats, 0..4 harmful, 0..2 and 9 flipped."""
    rows = range(10)
    return pd.DataFrame(
        {
            "id": [f"s{row}" for row in rows],
            "ref": "",
            "given": ["cat" if row % 2 == 0 else "dog" for row in rows],
            "suggested": "",
            "true": "cat",
            "flipped": pd.array([row in (0, 1, 2, 9) for row in rows], "boolean"),
            "verdict": ["harmful" if row < 5 else "helpful" if row > 7 else "neutral" for row in rows],
            "influence": [row - 5.0 for row in rows],
            "weight": [row / 10 for row in rows],
            "loss": 1.0,
            "rank": [9 - row for row in rows],
        }
    )


def rows_of(selection: Selection, table: pd.DataFrame) -> list[int]:
    return list(selection.apply(table).index)


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
    ],
)
def test_shows(table, show, rows):
    assert rows_of(Selection(show=show), table) == rows


def test_unknown_flips_are_neither_missed_nor_false_alarms(table):
    table["flipped"] = pd.array([pd.NA] * 10, "boolean")
    assert [rows_of(Selection(show=show), table) for show in list(SHOWS)[3:]] == [[], [], []]


def test_the_histogram_counts_what_the_range_leaves_out(table):
    assert len(Selection(given="dog", low=0.5).filtered(table)) == 5


def test_an_open_range_is_no_range():
    assert Selection().range is None
    assert Selection(low=0.0).range == (0.0, float("inf"))


def test_a_small_selection_is_one_group(table):
    assert list(gallery_groups(table, 1)) == ["Most harmful first"]


@pytest.mark.parametrize("size", [19, 36, 37, 100])
def test_pages_show_every_sample_once_from_both_ends(size):
    selected = pd.DataFrame({"rank": range(size)})
    pages = [gallery_groups(selected, page) for page in range(1, page_count(size) + 1)]
    shown = [row for page in pages for group in page.values() for row in group.index]
    assert sorted(shown) == list(range(size))
    assert pages[0]["Most harmful"].index[0] == 0
    assert pages[0]["Most helpful"].index[0] == size - 1


def test_a_box_becomes_a_range_and_nothing_becomes_none():
    assert brushed_range({"selection": {"box": [{"x": [0.987, 0.1234], "y": [0, 1]}], "points": []}}) == (0.12, 0.99)
    assert brushed_range({"selection": {"box": [], "points": []}}) is None


def test_csv_says_where_every_figure_comes_from(table):
    text = to_csv(Selection(given="cat").apply(table), "run-1", 7, 3)
    read = pd.read_csv(io.StringIO(text))
    assert list(read["row"]) == [8, 6, 4, 2, 0]
    assert set(zip(read["run_id"], read["epoch"], read["seed"], strict=True)) == {("run-1", 7, 3)}
    assert {"id", "given", "suggested", "influence", "weight", "flipped"} <= set(read.columns)
    assert ALL_CLASSES not in text
