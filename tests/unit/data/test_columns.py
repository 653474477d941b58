import datasets
import numpy as np
import pandas as pd
import pytest

from kdaif.config import Columns, UserError
from kdaif.data.columns import class_names, encode, find_columns

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
    assert find_columns(table(**columns), Columns()) == (*found, None)


def test_a_lone_class_label_is_the_label_and_the_given_column_never() -> None:
    rows = class_label([0, 1]).add_column("img", [b"x", b"y"]).add_column("label", [1, 1])
    assert find_columns(rows, Columns(given="label")).label == "kind"


def test_named_columns_win() -> None:
    rows = table(img=[b"x"], mask=[b"y"], label=[1], truth=[1])
    assert find_columns(rows, Columns(input="mask", label="truth", given="label")) == ("mask", "truth", "label")


@pytest.mark.parametrize(
    ("columns", "wanted", "said"),
    [
        ({"img": [b"x"], "label": [1]}, {"label": "lable"}, "data.columns.label: got 'lable', takes one of img, label"),
        ({"img": [b"x"], "label": [1]}, {"given": "noisy"}, "data.columns.given: got 'noisy'"),
        ({"left": [b"x"], "right": [b"x"], "label": [1]}, {}, "data.columns.input: name the column of images"),
        ({"width": [3], "label": [1]}, {}, "data.columns.input: name the column of images"),
        (
            {"sentence": ["hello"], "label": [1]},
            {},
            r"only words \(sentence\); image data is supported by this version",
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
        (table(kind=[[1], [2]]), "takes class names or whole numbers"),
        (table(kind=["oak", "yew"]), "has the label 'yew', takes the train split's: oak, elm"),
        (table(kind=[0, 2]), "has the label '2'"),
    ],
)
def test_labels_that_are_none_are_refused(rows: Rows, said: str) -> None:
    with pytest.raises(UserError, match=said):
        encode(rows, "kind", ("oak", "elm"), "f")
