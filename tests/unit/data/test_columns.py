import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kdaif.config import Columns, UserError
from kdaif.data.columns import Found, class_names, descriptions, encode, find_columns, numbers

Rows = datasets.Dataset


def table(**columns: list) -> Rows:
    return Rows.from_pandas(pd.DataFrame(columns))


def class_label(values: list[int]) -> Rows:
    return Rows.from_dict({"kind": values}, datasets.Features({"kind": datasets.ClassLabel(names=["oak", "elm"])}))


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"img": [b"x"], "label": [1]}, ("img", "label")),
        ({"picture": [{"bytes": b"x", "path": None}], "note": ["words"], "Class": [1]}, ("picture", "Class")),
        ({"file_name": ["a.png"], "category": ["cat"], "note": ["words"]}, ("file_name", "category")),
        ({"img": [b"x"], "fine_label": [1], "coarse_label": [1]}, ("img", "fine_label")),
    ],
)
def test_columns_are_found_by_type_and_usual_name(columns: dict, found: tuple[str, str]) -> None:
    assert find_columns(table(**columns), Columns()) == Found(*found, None)


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        ({"sentence": ["hello"], "label": [1]}, ("sentence",)),
        ({"note": ["hello"], "label": ["good"]}, ("note",)),
        ({"sentence1": ["a"], "sentence2": ["b"], "label": [1]}, ("sentence1", "sentence2")),
        ({"Premise": ["a"], "hypothesis": ["b"], "note": ["c"], "label": [1]}, ("Premise", "hypothesis")),
        ({"text": ["a"], "author": ["b"], "label": [1]}, ("text",)),
    ],
)
def test_sentences_are_found_where_there_are_no_images(columns: dict, texts: tuple[str, ...]) -> None:
    assert find_columns(table(**columns), Columns()) == Found(None, "label", None, texts)


def test_the_users_columns_come_before_what_is_known_of_a_source() -> None:
    rows = table(a=["x"], b=["y"], c=["z"], label=[1], mean=[0.5])
    known = Columns(text="a", text_pair="b", rating="mean")
    assert find_columns(rows, Columns(), known) == Found(None, "label", None, ("a", "b"), "mean")
    assert find_columns(rows, Columns(text="c"), known) == Found(None, "label", None, ("c",), "mean")


def test_numbers_keep_gaps_and_refuse_words() -> None:
    rows = table(mean=[0.5, None], count=[1, 1_700_000_001], word=["a", "b"])
    np.testing.assert_array_equal(numbers(rows, "mean", "x"), np.array([0.5, np.nan]))
    assert numbers(rows, "count", "x").tolist() == [1, 1_700_000_001]
    with pytest.raises(UserError, match=r"^data.columns.rating: column 'word' is .*string, takes numbers\.$"):
        numbers(rows, "word", "data.columns.rating")


def test_a_lone_class_label_is_the_label_and_the_given_column_never() -> None:
    rows = class_label([0, 1]).add_column("img", [b"x", b"y"]).add_column("label", [1, 1])
    assert find_columns(rows, Columns(given="label")).label == "kind"


def test_named_columns_win() -> None:
    rows = table(img=[b"x"], mask=[b"y"], label=[1], truth=[1])
    assert find_columns(rows, Columns(input="mask", label="truth", given="label")) == Found("mask", "truth", "label")


@pytest.mark.parametrize(
    ("columns", "wanted", "said"),
    [
        ({"img": [b"x"], "label": [1]}, {"label": "lable"}, "data.columns.label: got 'lable', takes one of img, label"),
        ({"img": [b"x"], "label": [1]}, {"given": "noisy"}, "data.columns.given: got 'noisy'"),
        ({"left": [b"x"], "right": [b"x"], "label": [1]}, {}, "data.columns.input: name the column of images"),
        ({"width": [3], "label": [1]}, {}, "data.columns.input: name the column of images"),
        ({"first": ["hello"], "second": ["you"], "label": [1]}, {}, "data.columns.text: name the column of sentences"),
        ({"s": ["x"], "img": [b"x"], "label": [1]}, {"text": "s", "input": "img"}, "data.columns: got both input"),
        (
            {"s": ["x"], "t": ["x"], "label": [1]},
            {"text_pair": "t"},
            "data.columns.text_pair: got no data.columns.text",
        ),
        ({"img": [b"x"], "a": [1], "b": [2]}, {}, "data.columns.label: name the column of labels"),
    ],
)
def test_unclear_columns_are_refused(columns: dict, wanted: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_columns(table(**columns), Columns(**wanted))


@pytest.mark.parametrize(
    ("values", "classes", "codes"),
    [
        (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        ([10, 9, 10], ("9", "10"), [1, 0, 1]),
        ([2.0, 1.0, 2.0], ("1", "2"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (["None", "1", "-1"], ("-1", "1", "None"), [2, 1, 0]),
        (["②", "10", "²", "9"], ("9", "10", "²", "②"), [3, 1, 2, 0]),
        (["1" * 5000, "2"], ("2", "1" * 5000), [1, 0]),
        ([2**63 + 7, 2**63 + 5], ("9223372036854775813", "9223372036854775815"), [1, 0]),
        ([2.0**53 - 1, 2.0**53 - 2], ("9007199254740990", "9007199254740991"), [1, 0]),
    ],
)
def test_labels_become_class_numbers(values: list, classes: tuple[str, ...], codes: list[int]) -> None:
    rows = table(kind=values)
    assert class_names(rows, {"f": "kind"}) == classes
    assert encode(rows, "kind", classes, "f").tolist() == codes


def test_class_label_keeps_its_names_even_unused_ones() -> None:
    rows = class_label([1, 1, 1])
    assert class_names(rows, {"f": "kind"}) == ("oak", "elm")
    assert encode(rows, "kind", ("oak", "elm"), "f").tolist() == [1, 1, 1]


def test_two_label_columns_share_their_classes() -> None:
    assert class_names(table(a=["x", "y"], b=["y", "z"]), {"f": "a", "g": "b"}) == ("x", "y", "z")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (table(kind=["oak", None]), r"f: column 'kind' has 1 rows without a label \(first row 1\)"),
        (table(kind=[np.nan, 1.0]), r"1 rows without a label \(first row 0\)"),
        (class_label([0, -1, -1]), r"2 rows without a label \(first row 1\)"),
        (table(kind=[0.5, 1.0]), "takes class names or whole numbers"),
        (table(kind=[1e20, 3e20]), r"f: column 'kind' has the number 1e\+20, too large for a float to tell it from"),
        (Rows.from_dict({"kind": np.array([1, 2**24], np.float32)}), r"column 'kind' has the number 1.67772e\+07, too"),
        (table(kind=[[1], [2]]), "takes class names or whole numbers"),
        (table(kind=["oak", "yew"]), "has the label 'yew', takes the train split's: oak, elm"),
        (table(kind=[0, 2]), "has the label '2'"),
    ],
)
def test_labels_that_are_none_are_refused(rows: Rows, said: str) -> None:
    with pytest.raises(UserError, match=said):
        encode(rows, "kind", ("oak", "elm"), "f")


def test_what_a_table_says_of_its_samples_beside_input_and_label() -> None:
    rows = class_label([0, 1]).add_column("year", [1990, None]).add_column("good", [True, False])
    rows = rows.add_column("place", ["here", None]).add_column("width", [0.5, 1.0]).add_column("label", [1, 1])
    found = {name: values.tolist() for name, values in descriptions(rows, Found("img", "label", None)).items()}
    assert found == {"kind": ["oak", "elm"], "year": ["1990", ""], "good": ["True", "False"], "place": ["here", ""]}


def test_large_whole_numbers_beside_empty_cells_are_told_exactly() -> None:
    rows = Rows(pa.table({"label": [1, 2], "serial": pa.array([2**63 + 5, None], pa.uint64())}))
    assert descriptions(rows, Found("img", "label", None))["serial"].tolist() == ["9223372036854775813", ""]
