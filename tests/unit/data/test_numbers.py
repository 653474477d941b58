"""Labels that are numbers: how they are read, standardised, altered and edited."""

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from kdaif.config import NoiseConfig, UserError, parse_config
from kdaif.data import Dataset, load
from kdaif.data.noise import NUMBER_NOISE, Target
from tests.sentences import scored_sentences, write_scored

VALUES = (
    np.random.default_rng(3).choice([0.0, 0.5, 1.0, 2.5, 4.0], 3001, p=[0.5, 0.2, 0.1, 0.1, 0.1]).astype(np.float32)
)


def read(source: Path, noise: dict | None = None, **settings: object) -> Dataset:
    columns = {"text": "text", "label": "score"}
    data = parse_config({"data": {"source": str(source), "task": "regression", "columns": columns, **settings}}).data
    return load(data, NoiseConfig.model_validate(noise or {}), 0, None)


def test_numbers_are_standardised_over_the_training_samples(tmp_path: Path) -> None:
    dataset = read(write_scored(tmp_path))
    train = dataset.train
    assert (dataset.classes, dataset.figures) == (("score",), ("pearson", "spearman"))
    assert train.labels.dtype == torch.float32
    assert float(train.labels.mean()) == pytest.approx(0, abs=1e-5)
    assert float(train.labels.std(correction=0)) == pytest.approx(1, abs=1e-5)
    own = scored_sentences(160)["score"].iloc[[int(name[-6:]) for name in train.ids]]
    np.testing.assert_allclose(dataset.scale.own(train.labels.numpy()), own, atol=1e-4)
    assert dataset.words(train.labels[:3]) == [f"{value:.4g}" for value in own[:3]]
    test = scored_sentences(60, seed=1)["score"]
    np.testing.assert_allclose(dataset.scale.own(dataset.test.labels.numpy()), test, atol=1e-4)


def test_a_single_validation_sample_is_refused(tmp_path: Path) -> None:
    folder = write_scored(tmp_path)
    said = r"^data.validation: got 0.1, which cuts 1 of 10 samples; takes a share that cuts 2 or more\.$"
    with pytest.raises(UserError, match=said):
        read(folder, train_size=10, validation=0.1)
    assert len(read(folder, train_size=10, validation=0.2).validation) == 2


def test_large_numbers_that_differ_little_are_told_apart(tmp_path: Path) -> None:
    seconds = 1_700_000_000 + np.arange(200) % 11
    scored_sentences(200).assign(score=seconds).to_csv(tmp_path / "times.csv", index=False)
    train = read(tmp_path / "times.csv").train
    own = seconds[[int(name[-6:]) for name in train.ids]]
    np.testing.assert_allclose(train.labels, (own - own.mean()) / own.std(), atol=1e-5)


def test_one_file_is_cut_into_splits_and_subsets(tmp_path: Path) -> None:
    scored_sentences(200).to_csv(tmp_path / "one.csv", index=False)
    dataset = read(tmp_path / "one.csv", train_size=100, test_size=20, validation=0.25)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [75, 25, 20]


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.777])
def test_exactly_the_rate_is_altered_and_nothing_gives_it_away(rate: float) -> None:
    altered = noisy(rate)
    assert (altered != VALUES).sum() == round(rate * len(VALUES))
    assert set(altered) <= set(VALUES)
    wrong = altered[altered != VALUES]
    if rate:  # from all samples with another number: of a half that is 0 there is less among the wrong ones
        others = [(VALUES[value != VALUES] == 0).mean() if value else 0.0 for value in VALUES[altered != VALUES]]
        assert (wrong == 0).mean() == pytest.approx(np.mean(others), abs=0.05)


def test_seeds_decide_and_a_higher_rate_alters_more_of_the_same() -> None:
    low, high = noisy(0.2), noisy(0.4)
    assert (low == noisy(0.2)).all()
    assert (low != noisy(0.2, seed=1)).any()
    altered = low != VALUES
    assert (high[altered] == low[altered]).all()


def noisy(rate: float, seed: int = 0) -> np.ndarray:
    target = Target(VALUES, ("value",), np.arange(len(VALUES)), datasets.Dataset.from_dict({"value": VALUES}), None)
    return NUMBER_NOISE["symmetric"](target, NoiseConfig(kind="symmetric", rate=rate), np.random.default_rng(seed))


def test_noise_reaches_the_labels_and_the_clean_ones_are_kept(tmp_path: Path) -> None:
    train = read(write_scored(tmp_path), {"kind": "symmetric", "rate": 0.25}).train
    assert train.flipped.sum() == round(0.25 * len(train))
    assert train.clean.dtype == torch.float32


def test_doubtful_numbers_stand_beside_the_clean_ones(tmp_path: Path) -> None:
    folder = write_scored(tmp_path)
    table = pd.read_csv(folder / "train.csv")
    table.assign(guess=table["score"].where(table.index % 4 != 0, 33.0)).to_csv(folder / "train.csv", index=False)
    train = read(folder, columns={"text": "text", "label": "score", "given": "guess"}).train
    assert train.flipped.float().mean() == pytest.approx(0.25, abs=0.1)


def test_edits_are_numbers_in_their_own_units(tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "data")
    plain = read(folder)
    ids, edits = plain.train.ids, tmp_path / "edits.csv"
    edits.write_text(f"id,label\n{ids[0]},\n{ids[4]},123.5\n")
    edited = read(folder, edits=str(edits))
    assert list(edited.train.ids) == list(ids[1:])
    assert edited.words(edited.train.labels[3:4]) == ["123.5"]
    edits.write_text(f"id,label\n{ids[0]},high\n")
    with pytest.raises(
        UserError, match=r"^data.edits: .* has the label 'high', takes a number, or none to leave it out"
    ):
        read(folder, edits=str(edits))


@pytest.mark.parametrize(
    ("score", "noise", "settings", "said"),
    [
        (None, {}, {}, r"data.columns.label: column 'score' has 1 rows without a number \(first row 0\)"),
        (7.0, {}, {}, "data.columns.label: every sample has the number 7, takes two or more"),
        ("high", {}, {}, "data.columns.label: column 'score' is .*string, takes numbers"),
        ("", {"kind": "pair", "rate": 0.1}, {}, "noise.kind: got 'pair', which is made for classes; takes none, symm"),
        ("", {"kind": "matrix", "matrix": [[1]]}, {}, "noise.kind: got 'matrix', which is made for classes"),
        ("", {}, {"imbalance": 5}, "data.imbalance: got 5, which thins out classes; takes 1 for numbers"),
        (
            "",
            {},
            {"task": None},
            "data.columns.label: column 'score' is .*; numbers to be predicted need data.task=reg",
        ),
        ("", {}, {"task": "ranking"}, "data.task: got 'ranking', should be 'classification' or 'regression'"),
    ],
)
def test_bad_numbers_get_one_sentence(tmp_path: Path, score: object, noise: dict, settings: dict, said: str) -> None:
    folder = write_scored(tmp_path)
    table = pd.read_csv(folder / "train.csv")
    if score is None:
        table.loc[0, "score"] = np.nan
    else:
        table["score"] = table["score"] + 0.25 if score == "" else score
    table.to_parquet(folder / "train.parquet")
    (folder / "train.csv").unlink()
    with pytest.raises(UserError, match=f"^{said}"):
        read(folder, noise, **settings)
