"""From the data and noise sections of a config to a `Dataset`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from kdaif.config import DataConfig, NoiseConfig, UserError, lookup
from kdaif.data.columns import Found, class_names, descriptions, encode, find_columns, numbers
from kdaif.data.corruption import corrupt, damage_of
from kdaif.data.edits import edit
from kdaif.data.images import decode, encoded
from kdaif.data.noise import NOISE, NUMBER_NOISE, Target
from kdaif.data.sources import read_source
from kdaif.data.split import Dataset, Scale, Split, channel_statistics
from kdaif.data.splits import cut, long_tailed, subset
from kdaif.data.tables import Source, Table
from kdaif.data.text import Sentences, read_sentences, tokenised

IMAGES_ONLY = ("instance",)  # kinds of noise that need pixels
NUMBER_FIGURES = ("pearson", "spearman")  # of labels that are numbers, where the source names none
LEAST = 2  # validation samples, of which a mean has a standard error; of classes there are as many
TEST_SHARE = 0.2  # of a source without a test split: cut with a fixed seed, so that its test split never changes


def load(data: DataConfig, noise: NoiseConfig, seed: int, data_root: Path | None) -> Dataset:
    """Reads, splits and decodes what `data` asks for, and puts in the noise.

    Which sample is in which split depends on `data` alone; the noise on `noise.seed`, else on `seed`. Clean labels
    are known (`Split.clean`) where noise is put in, even at rate 0, or where `data.columns.given` names the doubtful
    labels. Only the chosen samples' images are decoded. `data_root` is a folder of data sets, searched for named
    sources and relative paths.

    Raises `UserError` for anything in config or data that does not fit.
    """
    if data_root is not None and not data_root.is_dir():
        raise UserError(f"--data-root: got {str(data_root)!r}, takes a folder that exists.")
    make_noisy = lookup(NOISE, noise.kind, "noise.kind")
    if data.columns.given and noise.kind != "none":
        raise UserError(
            f"noise.kind: got {noise.kind!r}, takes none where data.columns.given names noisy labels already."
        )
    source = read_source(data.source, data_root)
    columns = find_columns(source.train.rows, data.columns, source.columns)
    if source.test:
        _check_test(source.name, source.test, columns)
    if columns.texts and noise.kind in IMAGES_ONLY:
        raise UserError(
            f"noise.kind: got {noise.kind!r}, which is made for images; "
            "takes none, symmetric, pair, matrix, column or input for text."
        )
    if columns.texts and data.augment != "none":
        raise UserError(f"data.augment: got {data.augment!r}, which is made for images; takes none for text.")
    regression = source.regression if data.task is None else data.task == "regression"
    if regression:
        _check_numbers(data, noise)
        make_noisy = NUMBER_NOISE[noise.kind]
    labels = (_read_numbers if regression else _read_labels)(source, columns)
    train, validation, test = _choose(labels, data, source.test is not None)
    scale = _scale(labels.given[train]) if regression else None
    if scale is not None:
        labels = labels.standardised(scale)

    places = [(source.train, train), (source.train, validation), (source.test or source.train, test)]
    sentences = read_sentences(places, columns, data.tokenizer, data.max_tokens) if columns.texts else None
    inputs = tuple(sentences.tokens) if sentences else _read_images(places, columns.input, data.image_size)
    rating, spread = (_numbers(places, columns, field) for field in ("rating", "rating_spread"))
    noise_seed = seed if noise.seed is None else noise.seed

    def noisy(rows: np.ndarray, part: int) -> np.ndarray:
        pixels = None if sentences else inputs[part].numpy()
        place = source.train.rows, data_root, pixels, noise_seed
        target = Target(labels.given[rows], labels.classes, rows, *place)
        return make_noisy(target, noise, _stream("noise", noise_seed, part))

    trained_on = (
        noisy(train, 0),
        noisy(validation, 1) if noise.validation else labels.true[validation],
        labels.test[test],
    )
    true = labels.true[train], labels.true[validation], labels.test[test]
    known = data.columns.given is not None or noise.kind != "none"
    corrupted: Sequence[Tensor | None] = (None, None, None)
    if noise.kind == "input":
        inputs, sentences, corrupted = _damaged(inputs, sentences, data, noise, noise_seed)
    train_says, test_says = (descriptions(table.rows, columns) for table in (source.train, source.test or source.train))
    said = train_says, train_says, test_says
    splits = [
        Split(
            inputs=images,
            labels=torch.from_numpy(noisy_labels),
            clean=torch.from_numpy(true_labels) if known else None,
            ids=np.array([f"{source.name}/{table.name}/{row:06d}" for row in rows]),
            refs=np.array([table.refs[row] for row in rows]),
            corrupted=which,
            texts=sentences.texts[part] if sentences else None,
            rating=rating[part],
            rating_spread=spread[part],
            columns={name: values[rows] for name, values in said[part].items()},
        )
        for part, ((table, rows), images, noisy_labels, true_labels, which) in enumerate(
            zip(places, inputs, trained_on, true, corrupted)
        )
    ]
    if data.edits:
        splits[0] = edit(splits[0], data.edits, labels.classes, data_root, scale)
    mean, std = ((), ()) if sentences else channel_statistics(splits[0].inputs)
    return Dataset(
        source.name,
        splits[0],
        splits[1],
        splits[2],
        labels.classes,
        mean,
        std,
        vocabulary=sentences.vocabulary if sentences else None,
        truncated=sentences.truncated if sentences else 0,
        figures=source.figures or (NUMBER_FIGURES if regression else ()),
        scale=scale,
    )


def _check_test(name: str, test: Table, columns: Found) -> None:
    """Raises `UserError` for a test table without a column that is read from it as from train."""
    read = (columns.input, *columns.texts, columns.label, columns.rating, columns.rating_spread)
    if missing := [column for column in read if column and column not in test.rows.column_names]:
        raise UserError(
            f"data.source: the {test.name} table of {name} has no column {missing[0]!r}, takes one as in train; "
            f"it has {', '.join(test.rows.column_names)}."
        )


@dataclass(frozen=True)
class _Labels:
    """Class numbers, or numbers to be predicted, of whole tables."""

    classes: tuple[str, ...]
    # trained on, before noise is put in
    given: Int64[np.ndarray, "train_rows"] | Float[np.ndarray, "train_rows"]
    # the same, unless a column of doubtful labels is named
    true: Int64[np.ndarray, "train_rows"] | Float[np.ndarray, "train_rows"]
    test: Int64[np.ndarray, "test_rows"] | Float[np.ndarray, "test_rows"]

    def standardised(self, scale: Scale) -> "_Labels":
        given, true, test = (scale.standard(part) for part in (self.given, self.true, self.test))
        return _Labels(self.classes, given, true, test)

    @property
    def strata(self) -> tuple[Int64[np.ndarray, "train_rows"], Int64[np.ndarray, "test_rows"]]:
        """What subsets and cuts keep the shares of, train's and test's: the classes; of numbers nothing."""
        if self.given.dtype.kind == "f":
            return np.zeros(len(self.given), np.int64), np.zeros(len(self.test), np.int64)
        return self.given, self.test


def _read_labels(source: Source, columns: Found) -> _Labels:
    train = source.train.rows
    fields = {"data.columns.label": columns.label, "data.columns.given": columns.given or columns.label}
    classes = class_names(train, fields)
    true, given = (encode(train, column, classes, field) for field, column in fields.items())
    if len(np.unique(given)) < 2:
        raise UserError(
            f"data.columns.label: every sample is of class {classes[given[0]]!r}, takes two classes or more."
        )
    test = encode(source.test.rows, columns.label, classes, "data.columns.label") if source.test else true
    return _Labels(classes, given, true, test)


def _check_numbers(data: DataConfig, noise: NoiseConfig) -> None:
    """Raises `UserError` for settings that need classes."""
    if noise.kind not in NUMBER_NOISE:
        raise UserError(
            f"noise.kind: got {noise.kind!r}, which is made for classes; takes {', '.join(NUMBER_NOISE)} for numbers."
        )
    if data.imbalance > 1:
        raise UserError(f"data.imbalance: got {data.imbalance:g}, which thins out classes; takes 1 for numbers.")


def _read_numbers(source: Source, columns: Found) -> _Labels:
    def read(table: Table, column: str, field: str) -> Float[np.ndarray, "rows"]:
        values = numbers(table.rows, column, field)
        if (missing := ~np.isfinite(values)).any():
            raise UserError(
                f"{field}: column {column!r} has {missing.sum()} rows without a number (first row {missing.argmax()}), "
                "takes one for every sample."
            )
        return values

    true = read(source.train, columns.label, "data.columns.label")
    given = read(source.train, columns.given, "data.columns.given") if columns.given else true
    test = read(source.test, columns.label, "data.columns.label") if source.test else true
    return _Labels((columns.label,), given, true, test)


def _scale(given: Float[np.ndarray, "n"]) -> Scale:
    """Of the training samples' labels."""
    if given.min() == given.max():
        raise UserError(f"data.columns.label: every sample has the number {given[0]:g}, takes two or more.")
    return Scale(float(given.mean()), float(given.std()))


def _choose(labels: _Labels, data: DataConfig, has_test: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the train, validation and test splits in their tables; stratified by the classes that a user would see."""
    strata, test_strata = labels.strata
    if has_test:
        pool, test = np.arange(len(labels.given)), np.arange(len(labels.test))
    else:
        pool, test = cut(strata, TEST_SHARE, _stream("test", 0), "data.source", labels.classes)
    draws = [_stream("split", data.split_seed, part) for part in range(3)]
    pool = pool[subset(strata[pool], data.train_size, draws[0], "data.train_size")]
    test = test[subset(test_strata[test], data.test_size, draws[1], "data.test_size")]
    stay, off = cut(strata[pool], data.validation, draws[2], "data.validation", labels.classes)
    if len(off) < LEAST:
        raise UserError(
            f"data.validation: got {data.validation:g}, which cuts {len(off)} of {len(pool)} samples; takes a share that "
            f"cuts {LEAST} or more."
        )
    train = pool[stay]
    if data.imbalance > 1:
        train = train[long_tailed(strata[train], data.imbalance, _stream("imbalance", data.split_seed))]
    return train, pool[off], test


def _stream(purpose: str, *seeds: int) -> np.random.Generator:
    """Random numbers for one purpose: with the same seed, which samples are chosen must not decide which are flipped."""
    return np.random.default_rng([*purpose.encode(), *seeds])


def _read_images(
    places: list[tuple[Table, np.ndarray]], column: str | None, size: int | None
) -> tuple[UInt8[Tensor, "_ channels height width"], ...]:
    """The images at these rows of these tables: one tensor for each place, all of one size and number of channels."""
    assert column is not None
    images = [image for table, rows in places for image in encoded(table, column, rows)]
    refs = [table.refs[row] for table, rows in places for row in rows]
    return decode(images, refs, size).split([len(rows) for _, rows in places])


def _damaged(
    images: tuple[Tensor, ...], sentences: Sentences | None, data: DataConfig, noise: NoiseConfig, seed: int
) -> tuple[tuple[Tensor, ...], Sentences | None, list[Tensor]]:
    """Inputs of the splits, the sentences that they are made of, and whose were damaged."""
    damage = damage_of(noise.corruption, text=sentences is not None)
    rates = noise.rate, noise.rate if noise.validation else 0.0, 0.0
    draws = [_stream("corruption", seed, part) for part in range(3)]
    whole = sentences.texts if sentences else [part.numpy() for part in images]
    found, which = zip(*(corrupt(*each) for each in zip(whole, rates, [damage] * 3, draws)))
    corrupted = [torch.from_numpy(damaged) for damaged in which]
    if sentences is None:
        return tuple(map(torch.from_numpy, found)), None, corrupted
    sentences = tokenised(found, sentences.vocabulary, data.max_tokens)
    return tuple(sentences.tokens), sentences, corrupted


def _numbers(places: list[tuple[Table, np.ndarray]], columns: Found, field: str) -> list[np.ndarray | None]:
    """What people said of the samples of each place, where a column holds it."""
    column = getattr(columns, field)
    if column is None:
        return [None] * len(places)
    return [numbers(table.rows, column, f"data.columns.{field}")[rows].astype(np.float32) for table, rows in places]
