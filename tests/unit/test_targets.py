"""Which validation samples an influence target is, and what is said of a target that does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdaif.config import UserError
from kdaif.data import Split
from kdaif.targets import TARGETS, check_target, parse, select

CLASSES = ("cat", "dog", "1", "owl")
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 3])
SPLIT = Split(
    torch.zeros(8, 1, 2, 2, dtype=torch.uint8),
    LABELS,
    None,
    np.array([f"id {number}" for number in range(8)]),
    np.array([""] * 8),
    columns={"place": np.array(list("aabbabab")), "year": np.array(["1", "2"] * 4)},
)


def logits(sure: list[float]) -> torch.Tensor:
    """A teacher that is right everywhere, and as sure of the samples of each class as this says."""
    right = torch.nn.functional.one_hot(LABELS, 4).float()
    return right * torch.tensor(sure)[LABELS, None]


SURE = logits([3.0, 1.0, 2.0, 0.1])


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        ("all", list(range(8))),
        ("class:dog", [1, 4]),
        ("class:0", [0, 3, 6]),
        ("class:1", [2, 5]),  # a name goes before a number
        ("group:place=b", [2, 3, 5, 7]),
        ("worst-class", [1, 4]),  # class owl, of one sample, is passed over
    ],
)
def test_the_samples_of_a_target(target: str, rows: list[int]) -> None:
    found = select(target, SPLIT, CLASSES, SURE)
    assert found.ids.tolist() == [f"id {row}" for row in rows]
    assert torch.equal(found.labels, LABELS[rows])


def test_the_worst_class_is_the_one_of_the_highest_loss() -> None:
    assert set(select("worst-class", SPLIT, CLASSES, logits([1.0, 2.0, 3.0, 4.0])).labels.tolist()) == {0}
    wrong = SURE.clone()
    wrong[2, 3] = 9.0
    assert set(select("worst-class", SPLIT, CLASSES, wrong).labels.tolist()) == {2}


def test_chosen_samples(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("id 5\n\n  id 2  \nid 5\n")
    assert select(f"ids:{file}", SPLIT, CLASSES, SURE).ids.tolist() == ["id 2", "id 5"]
    file.write_text("id 5\nid 99\nid 98\n")
    with pytest.raises(UserError, match=r"^influence\.target: 2 ids in .* are none of the 8 .* \(first 'id 98'\)\.$"):
        select(f"ids:{file}", SPLIT, CLASSES, SURE)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"cannot be read as text \(UnicodeDecodeError\)\.$"):
        check_target(f"ids:{file}", CLASSES, SPLIT)


@pytest.mark.parametrize(
    "target", ["", "class", "class:", "all:", "all:1", "ids", "ids:", "worst-class:2", "group:", "group:a", "group"]
)
def test_other_forms_are_refused(target: str) -> None:
    with pytest.raises(UserError) as caught:
        check_target(target, CLASSES, SPLIT)
    assert str(caught.value) == (
        f"influence.target: got {target!r}, takes one of all, class:NAME, worst-class, group:COLUMN=VALUE, ids:FILE."
    )


@pytest.mark.parametrize("name", ["bird", "4", "-1", "²"])
def test_unknown_classes_are_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        check_target(f"class:{name}", CLASSES, SPLIT)
    assert str(caught.value) == (
        f"influence.target: there is no class {name!r}, takes one of cat, dog, 1, owl or a number from 0 to 3."
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("group:town=a", "there is no column 'town', takes one of place, year."),
        ("group:place=c", "no validation sample has 'c' in column 'place', takes one of a, b."),
        ("group:year==1", "no validation sample has '=1' in column 'year', takes one of 1, 2."),
    ],
)
def test_unknown_groups_are_refused(target: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_target(target, CLASSES, SPLIT)
    assert str(caught.value) == f"influence.target: {said}"
    with pytest.raises(UserError, match="the data have none beside input and label"):
        check_target(target, CLASSES, replace(SPLIT, columns={}))


def test_many_classes_are_not_all_named() -> None:
    with pytest.raises(UserError, match=r"c8, c9, \.\.\. or a number from 0 to 99\.$"):
        check_target("class:x", tuple(f"c{number}" for number in range(100)), SPLIT)


def test_a_target_of_fewer_than_two_samples_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        select("class:owl", SPLIT, CLASSES, SURE)
    assert str(caught.value) == (
        "influence.target: 'class:owl' leaves 1 of the 8 validation samples in use, takes a target of at least 2."
    )


def test_every_target_is_reachable() -> None:
    assert {parse(target)[0] for target in ("all", "class:cat", "worst-class", "group:a=b", "ids:file")} == set(TARGETS)
