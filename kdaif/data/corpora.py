"""Named sources of sentences: the nine tasks of GLUE, and film reviews that many people rated.

GLUE (Wang et al., arXiv 1804.07461) publishes no labels of its test splits, so the validation split is the test split here,
MNLI's matched one.
"""

import ast
import csv
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np

from kdaif.config import Columns, UserError
from kdaif.data.columns import numbers
from kdaif.data.tables import Source, Table, read_folder, read_hub
from kdaif.outside import fetch_sdist


class Task(NamedTuple):
    """The columns of a GLUE task and how it is judged beside accuracy."""

    text: str
    pair: str | None = None
    figures: tuple[str, ...] = ()


GLUE = {
    "cola": Task("sentence", figures=("matthews",)),
    "sst2": Task("sentence"),
    "mrpc": Task("sentence1", "sentence2", ("f1",)),
    "qqp": Task("question1", "question2", ("f1",)),
    "stsb": Task("sentence1", "sentence2", ("pearson", "spearman")),
    "mnli": Task("premise", "hypothesis"),
    "qnli": Task("question", "sentence"),
    "rte": Task("sentence1", "sentence2"),
    "wnli": Task("sentence1", "sentence2"),
}

REVIEWS = {
    "requirement": "vaderSentiment==3.3.2",
    "file": "vaderSentiment-3.3.2.tar.gz",
    "sha256": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
}


def glue(task: str, data_root: Path | None) -> Source:
    """A GLUE task: parquet files in the folder glue/TASK under `data_root`, else from the hub."""
    name, entry = f"glue/{task}", GLUE[task]
    folder = data_root / name if data_root else None
    tests = ("validation_matched", "validation")
    source = read_folder(folder, name) if folder and folder.is_dir() else read_hub(name, f"nyu-mll/glue:{task}", tests)
    if regression := task == "stsb":
        for table in filter(None, (source.train, source.test)):
            _check_ratings(table)
    columns = Columns(text=entry.text, text_pair=entry.pair, label="label")
    return Source(name, source.train, source.test, columns, entry.figures, regression)


def _check_ratings(table: Table) -> None:
    """STS-B's mean ratings of how alike two sentences are; the hub marks unrated pairs by -1."""
    rating = numbers(table.rows, "label", "data.source")
    if not (np.isnan(rating) | ((rating >= 0) & (rating <= 5))).all():
        raise UserError(
            f"data.source: the labels of glue/stsb ({table.name}) must be ratings, takes numbers from 0 to 5."
        )


def reviews(data_root: Path | None) -> Source:
    """10,568 sentences of film reviews, each rated by 15 to 29 people from -4 to 4 (Hutto & Gilbert, ICWSM 2014).

    The label is the sign of the mean rating; 37 sentences with mean 0 have none and are left out. From the source
    distribution of the PyPI package vaderSentiment; the sentences are those of Pang & Lee (2004).
    """
    sdist = fetch_sdist(**REVIEWS, data_root=data_root)
    with tarfile.open(sdist) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        with tarfile.open(fileobj=inner) as archive:
            sentences = _tab_separated(archive, "movieReviewSnippets_GroundTruth.txt")
            rated = _tab_separated(archive, "movieReviewSnippets_anonDataRatings.txt")
    ratings = {number: ast.literal_eval(given) for number, _, _, given in rated}
    kept = [(number, text, np.array(ratings[number])) for number, _, text in sentences if np.mean(ratings[number]) != 0]
    columns = {
        "text": [text for _, text, _ in kept],
        "label": [int(given.mean() > 0) for _, _, given in kept],
        "rating": [given.mean() for _, _, given in kept],
        "rating_spread": [given.std() for _, _, given in kept],
    }
    kinds = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    kinds |= {name: datasets.Value("float64") for name in ("rating", "rating_spread")}
    rows = datasets.Dataset.from_dict(columns, datasets.Features(kinds))
    table = Table("all", rows, [f"movieReviewSnippets#{number}" for number, _, _ in kept], None)
    return Source("reviews", table, None, Columns(**{name: name for name in columns}))


def _tab_separated(archive: tarfile.TarFile, name: str) -> list[list[str]]:
    file = archive.extractfile(f"hutto_ICWSM_2014/{name}")
    assert file is not None
    lines = file.read().decode().splitlines()
    return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


CORPORA: dict[str, Callable[[Path | None], Source]] = {
    **{f"glue/{task}": partial(glue, task) for task in GLUE},
    "reviews": reviews,
}
