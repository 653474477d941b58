"""Sentences of our own making, and runs on them that take seconds: word lists decide the class."""

import os
from collections.abc import Mapping
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kdaif.config import RunConfig, load_config
from kdaif.data import Split
from kdaif.data.corpora import GLUE
from kdaif.data.text import PAD

GOOD = ["bright", "warm", "moving", "witty", "tender", "joyful", "lively", "superb"]
BAD = ["dull", "cold", "tedious", "clumsy", "bitter", "gloomy", "stale", "dreadful"]
FILLERS = ["the", "film", "plot", "was", "very", "actor", "scene", "and", "a", "story", "about", "music"]
NAMES = {
    "cola": ["unacceptable", "acceptable"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
}
SMALL_TEXT = (
    "device=cpu",
    "data.max_tokens=32",
    "data.validation=0.2",
    "noise.kind=symmetric",
    "noise.rate=0.3",
    "teacher.model=bert-micro",
    "student.model=distilbert-micro",
    *(f"{part}.optim.{key}" for part in ("teacher", "student") for key in ("optimizer=adamw", "lr=0.003", "epochs=2")),
    "influence.refresh_steps=3",
)


def sentence(good: bool, rng: np.random.Generator) -> str:
    """Three to twelve fillers around two words that tell the class."""
    words = [*rng.choice(FILLERS, rng.integers(3, 13)), *rng.choice(GOOD if good else BAD, 2)]
    return " ".join(rng.permutation(words))


def sentences(count: int, seed: int = 0) -> pd.DataFrame:
    """Columns text and label (bad, good), as many of each."""
    rng = np.random.default_rng(seed)
    good = rng.permutation(np.arange(count) % 2 == 1)
    return pd.DataFrame({"text": [sentence(one, rng) for one in good], "label": np.where(good, "good", "bad")})


def scored_sentences(count: int, seed: int = 0) -> pd.DataFrame:
    """Columns text and score: of four telling words, how many are good, from 0 to 400."""
    rng = np.random.default_rng(seed)
    good = rng.integers(0, 5, count)
    words = [[*rng.choice(FILLERS, 4), *rng.choice(GOOD, one), *rng.choice(BAD, 4 - one)] for one in good]
    return pd.DataFrame({"text": [" ".join(rng.permutation(line)) for line in words], "score": 100.0 * good})


def write_scored(folder: Path, train: int = 160, test: int = 60) -> Path:
    """A folder with train.csv and test.csv of `scored_sentences`."""
    folder.mkdir(parents=True, exist_ok=True)
    scored_sentences(train).to_csv(folder / "train.csv", index=False)
    scored_sentences(test, seed=1).to_csv(folder / "test.csv", index=False)
    return folder


SCORED = ("data.task=regression", "data.columns={text: text, label: score}")


def write_sentences(folder: Path, train: int = 160, test: int = 60, **changed: object) -> Path:
    """A folder with train.parquet and test.parquet; `changed` columns of train."""
    folder.mkdir(parents=True, exist_ok=True)
    sentences(train).assign(**changed).to_parquet(folder / "train.parquet")
    sentences(test, seed=1).to_parquet(folder / "test.parquet")
    return folder


def small_text(source: Path | str, *sets: str) -> RunConfig:
    """The config of a run of seconds on that source, after further ``key=value``."""
    return load_config("digits", [*SMALL_TEXT, "data.augment=none", f"data.source={source}", *sets])


def write_glue(root: Path, task: str, rows: int = 200) -> Path:
    """glue/TASK under `root` with that many training rows: real ones where they are at hand, else made up; returns `root`."""
    folder = root / "glue" / task
    folder.mkdir(parents=True)
    shared = Path(os.environ.get("KDAIF_DATA_ROOT", Path(__file__).parents[2] / "shared" / "data"))
    for split, count in (("train", rows), ("validation", rows // 2)):
        real = shared / "glue" / task / f"{split}.parquet"
        if real.is_file():
            table = pq.read_table(real)
            table = table.take(pa.array(np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)))
        else:
            table = made_up(task, count).data.table
        pq.write_table(table, folder / f"{split}.parquet")
    return root


def made_up(task: str, count: int) -> datasets.Dataset:
    """A table in the task's format; where there is a pair, the second sentence tells the class too."""
    rng = np.random.default_rng(count)
    names = list("012345") if task == "stsb" else NAMES.get(task, ["no", "yes"])
    label = rng.permutation(np.arange(count) % len(names))
    features: dict[str, object] = {GLUE[task].text: datasets.Value("string")}
    if (pair := GLUE[task].pair) is not None:
        features[pair] = datasets.Value("string")
    columns: Mapping[str, object] = {name: [sentence(one > 0, rng) for one in label] for name in features}
    graded = task == "stsb"
    features["label"] = datasets.Value("float32") if graded else datasets.ClassLabel(names=names)
    spread = rng.uniform(-0.4, 0.4, count) if graded else 0
    return datasets.Dataset.from_dict(
        {**columns, "label": (label + spread).clip(0, 5) if graded else label}, datasets.Features(features)
    )


def token_rows(split: Split) -> datasets.Dataset:
    """As `tokenizer(...)` and `map` leave a data set."""
    ids = [one[one != PAD].tolist() for one in split.inputs[:, 0]]
    table = {"input_ids": ids, "attention_mask": [[1] * len(one) for one in ids], "labels": split.labels.tolist()}
    return datasets.Dataset.from_dict(table)
