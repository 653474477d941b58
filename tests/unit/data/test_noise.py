from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from kdaif.config import NoiseConfig, UserError
from kdaif.data.noise import NOISE, Target

CLASSES = ("a", "b", "c", "d")
TRUE = np.random.default_rng(7).integers(0, 4, 4001)


def target(labels: np.ndarray = TRUE, rows: np.ndarray | None = None, table: pd.DataFrame | None = None) -> Target:
    rows = np.arange(len(labels)) if rows is None else rows
    table = pd.DataFrame({"serial": np.arange(len(labels))}) if table is None else table
    return Target(labels, CLASSES, rows, datasets.Dataset.from_pandas(table), None)


def noisy(seed: int = 0, **noise: object) -> np.ndarray:
    config = NoiseConfig.model_validate(noise)
    return NOISE[config.kind](target(), config, np.random.default_rng(seed))


def test_none_changes_nothing() -> None:
    assert (noisy(kind="none") == TRUE).all()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.777])
@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_exactly_the_rate_is_flipped(kind: str, rate: float) -> None:
    assert (noisy(kind=kind, rate=rate) != TRUE).sum() == round(rate * len(TRUE))


def test_symmetric_is_uniform_over_the_other_classes_and_over_the_samples() -> None:
    given = noisy(kind="symmetric", rate=0.5)
    table = pd.crosstab(TRUE, given).to_numpy()
    assert np.diag(table) / table.sum(axis=1) == pytest.approx(0.5, abs=0.04)
    others = table[~np.eye(4, dtype=bool)].reshape(4, 3)
    assert others / table.sum(axis=1, keepdims=True) == pytest.approx(1 / 6, abs=0.03)


def test_pair_goes_to_the_next_class() -> None:
    given = noisy(kind="pair", rate=0.3)
    flipped = given != TRUE
    assert (given[flipped] == (TRUE[flipped] + 1) % 4).all()


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_seeds_decide_and_a_higher_rate_flips_more_of_the_same(kind: str) -> None:
    low, high = noisy(kind=kind, rate=0.2), noisy(kind=kind, rate=0.4)
    assert (low == noisy(kind=kind, rate=0.2)).all()
    assert (low != noisy(seed=1, kind=kind, rate=0.2)).any()
    flipped = low != TRUE
    assert (high[flipped] == low[flipped]).all()


def test_the_true_labels_are_left_alone() -> None:
    before = TRUE.copy()
    noisy(kind="symmetric", rate=0.9)
    assert (before == TRUE).all()


def test_matrix_frequencies_follow_its_rows() -> None:
    matrix = [[0.7, 0.3, 0, 0], [0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0.1, 0.9]]
    table = pd.crosstab(TRUE, noisy(kind="matrix", matrix=matrix)).to_numpy()
    assert table / table.sum(axis=1, keepdims=True) == pytest.approx(np.array(matrix), abs=0.04)
    assert (table[np.array(matrix) == 0] == 0).all()


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ([[0.5, 0.5], [0, 1]], "got 2 rows of 2 entries, takes 4 x 4"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1], [0, 0, 0, 1]], "got 4 rows of 3 or 4 entries"),
        ([[1, 0, 0, 0], [0, 0.9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "row 1 is .* sum to 1"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1.5, -0.5], [0, 0, 0, 1]], "row 2 is .*>= 0"),
    ],
)
def test_matrix_that_is_no_transition_matrix_is_refused(matrix: list[list[float]], said: str) -> None:
    with pytest.raises(UserError, match=f"^noise.matrix: {said}"):
        noisy(kind="matrix", matrix=matrix)


class TestColumn:
    """Labels that people gave, in a file of their own."""

    data = pd.DataFrame({"serial": [10, 11, 12, 13, 14]})
    people = pd.DataFrame({"serial": [14, 13, 12, 11, 10, 99], "worker": ["d", "c", "b", "a", "a", "a"]})

    def labels(self, path: Path, people: pd.DataFrame, **noise: str) -> list[int]:
        people.to_parquet(path)
        config = NoiseConfig.model_validate({"kind": "column", "file": str(path), "column": "worker", **noise})
        rows = np.array([4, 0, 2])
        return NOISE["column"](target(np.zeros(3, int), rows, self.data), config, np.random.default_rng(0)).tolist()

    def test_joins_by_key(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path / "people.parquet", self.people, key="serial") == [3, 0, 1]

    def test_joins_by_row_without_a_key(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path / "people.parquet", self.people[:5]) == [0, 3, 1]

    def test_numbers_are_class_numbers_where_classes_have_names(self, tmp_path: Path) -> None:
        people = self.people[:5].assign(worker=[3, 2, 1, 0, 2])
        assert self.labels(tmp_path / "people.parquet", people) == [2, 3, 1]

    @pytest.mark.parametrize(
        ("change", "noise", "said"),
        [
            ({}, {"file": "nowhere.parquet"}, "noise.file: got 'nowhere.parquet'"),
            ({}, {"column": "workers"}, "noise.column: got 'workers', people.parquet has"),
            ({}, {"key": "id"}, "noise.key: got 'id', people.parquet has"),
            ({"id": [1, 2, 3, 4, 5, 6]}, {"key": "id"}, "noise.key: got 'id', the data has"),
            ({}, {}, "noise.key: people.parquet has 6 rows and the data 5"),
            ({"serial": [14, 14, 12, 11, 10, 9]}, {"key": "serial"}, "noise.key: column 'serial' .* repeats 14"),
            ({"serial": [14, 13, 12, 11, 0, 9]}, {"key": "serial"}, r"no row for 1 samples \(first serial = 10\)"),
            ({"worker": ["d", "c", "b", "a", "a", "z"]}, {"key": "serial"}, "noise.column: .*label 'z', takes .* a, b"),
            ({"worker": ["d", "c", None, "a", "a", "a"]}, {"key": "serial"}, "noise.column: .*1 rows without a label"),
            ({"worker": [0, 1, 2, 3, 4, 0]}, {"key": "serial"}, "noise.column: .*label '4'"),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path: Path, change: dict, noise: dict, said: str) -> None:
        with pytest.raises(UserError, match=said):
            self.labels(tmp_path / "people.parquet", self.people.assign(**change), **noise)

    def test_needs_a_file(self) -> None:
        with pytest.raises(UserError, match=r"noise.file: got None"):
            NOISE["column"](target(), NoiseConfig(kind="column", column="worker"), np.random.default_rng(0))
