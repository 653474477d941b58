from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from kdaif.config import NoiseConfig, UserError
from kdaif.data.noise import NOISE, Target

CLASSES = ("a", "b", "c", "d")
TRUE = np.random.default_rng(7).integers(0, 4, 4001)
IMAGES = np.random.default_rng(8).integers(0, 256, (4001, 1, 5, 5), dtype=np.uint8)


def target(labels: np.ndarray = TRUE, rows: np.ndarray | None = None, table: pd.DataFrame | None = None) -> Target:
    rows = np.arange(len(labels)) if rows is None else rows
    table = pd.DataFrame({"serial": np.arange(len(labels))}) if table is None else table
    return Target(labels, CLASSES, rows, datasets.Dataset.from_pandas(table), None, IMAGES[: len(labels)])


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


@pytest.mark.parametrize("kind", ["symmetric", "pair", "instance"])
def test_seeds_decide_and_a_higher_rate_flips_more_of_the_same(kind: str) -> None:
    low, high = noisy(kind=kind, rate=0.2), noisy(kind=kind, rate=0.4)
    assert (low == noisy(kind=kind, rate=0.2)).all()
    assert (low != noisy(seed=1, kind=kind, rate=0.2)).any()
    flipped = low != TRUE
    assert (high[flipped] == low[flipped]).all()


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1, 0.4, 0.97])
def test_instance_noise_meets_the_rate_on_average(rate: float) -> None:
    wrong = (noisy(kind="instance", rate=rate) != TRUE).mean()
    assert wrong == pytest.approx(rate, abs=3 * np.sqrt(rate * (1 - rate) / len(TRUE)))


def test_instance_noise_depends_on_what_a_sample_looks_like() -> None:
    first, second = (noisy(seed=seed, kind="instance", rate=0.6) for seed in (0, 1))
    both = (first != TRUE) & (second != TRUE)
    assert 0.3 < both.mean() < 0.45  # who is flipped is drawn anew,
    assert (first == second)[both].mean() > 0.7  # but what it is taken for is its own; by chance 1/3
    table = pd.crosstab(TRUE[both], first[both]).to_numpy()
    assert (table > 0).sum(axis=1).tolist() == [3] * 4  # and not its class's alone
    assert (np.diag(table) == 0).all()
    other = NOISE["instance"](
        replace(target(), seed=1), NoiseConfig(kind="instance", rate=0.6), np.random.default_rng(0)
    )
    assert ((other != TRUE) == (first != TRUE)).all()
    assert (other == first)[first != TRUE].mean() < 0.6


def test_instance_noise_of_images_that_look_the_same_and_of_a_class_without_samples() -> None:
    labels = np.repeat([0, 1, 3], 300)
    blank = replace(target(labels), inputs=np.full((900, 1, 2, 2), 9, np.uint8))
    given = NOISE["instance"](blank, NoiseConfig(kind="instance", rate=0.5), np.random.default_rng(0))
    assert (given != labels).mean() == pytest.approx(0.5, abs=0.05)
    assert np.bincount(given[(given != labels) & (labels == 3)]) == pytest.approx([50] * 3, abs=25)


def test_input_noise_leaves_labels_alone() -> None:
    assert (noisy(kind="input", rate=0.5) == TRUE).all()


@pytest.mark.parametrize("kind", ["symmetric", "instance"])
def test_the_true_labels_are_left_alone(kind: str) -> None:
    before = TRUE.copy()
    noisy(kind=kind, rate=0.9)
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
