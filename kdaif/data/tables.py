"""Tables of samples from files, folders and the Hugging Face hub.

Everything becomes a `datasets.Dataset`. Local files are read straight into memory, with no copy in a cache folder; the
hub keeps its usual cache. Images stay encoded here: `images.decode` reads those that a run needs.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi, constants
from pandas.api.types import infer_dtype
from PIL import Image

from kdaif.config import Columns, UserError


@dataclass(frozen=True)
class Table:
    """One table of a source, its images still encoded."""

    name: str  # train, test, validation; all: the source has one table and no split of its own
    rows: datasets.Dataset
    refs: list[str]  # one a row: file and row, or the image file
    folder: Path | None  # where relative image paths start


@dataclass(frozen=True)
class Source:
    name: str  # first part of every sample id
    train: Table
    test: Table | None  # None: test is to be cut from `train`
    columns: Columns = field(default_factory=Columns)  # what is known of its columns; the config's own come first
    figures: tuple[str, ...] = ()  # by which the task is judged beside accuracy: names in `evaluate.FIGURES`
    regression: bool = False  # labels are numbers; the config's own word comes first

    def __post_init__(self) -> None:
        for table in (self.train, self.test):
            if table and not len(table.rows):
                raise UserError(f"data.source: the {table.name} table of {self.name} has no rows, takes samples.")


def read_file(path: Path) -> datasets.Dataset:
    """A parquet, csv, json or jsonl file as a table; raises `UserError` when it is none."""
    if path.suffix.lower() not in READERS:
        raise UserError(f"data: {path} has the ending {path.suffix!r}, takes one of {', '.join(READERS)}.")
    try:
        return READERS[path.suffix.lower()](path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"data: {path} cannot be read: {reason(error)}.") from None


def reason(error: Exception) -> str:
    """An exception's message on one line, short enough to end a sentence."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _read_parquet(path: Path) -> datasets.Dataset:
    # no partitioning: a folder named a=b must not become a column
    return datasets.Dataset(pq.read_table(path, partitioning=None))


def _read_csv(path: Path) -> datasets.Dataset:
    # "None" and "NA" are good class names; an empty cell is a missing value; a column's type is that of all its rows
    with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
        try:
            missing = ["", "nan", "NaN"]
            frame = pd.read_csv(path, index_col=False, keep_default_na=False, na_values=missing, low_memory=False)
        except pd.errors.ParserWarning:  # pandas would drop the last fields
            raise ValueError("its rows have more fields than its first line has names") from None
    # integers of more than 64 bits are words: Arrow has no such numbers
    large = [name for name, values in frame.items() if values.dtype == object and infer_dtype(values) == "integer"]
    return datasets.Dataset.from_pandas(frame.astype(dict.fromkeys(large, "string")))


def _read_json(path: Path) -> datasets.Dataset:
    lines = path.read_text().lstrip().startswith("{")
    return datasets.Dataset.from_pandas(pd.read_json(path, lines=lines, dtype=False))


READERS: dict[str, Callable[[Path], datasets.Dataset]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
}


def read_single(path: Path) -> Source:
    """One file, which has no split of its own."""
    return Source(path.stem, _table("all", [path]), None)


def read_folder(folder: Path, name: str) -> Source:
    """A folder of files train.* and test.* (or validation.*), or of class folders, split the same way or not at all."""
    found = {split: _read_split(folder, split) for split in ("train", "test", "validation")}
    train, test = found["train"], found["test"] or found["validation"]
    if train and test:
        return Source(name, train, test)
    train = train or _read_images("all", folder, folder)
    if train is None or test:
        raise UserError(
            f"data.source: folder {folder} takes train.parquet or train-*.parquet (or csv, json), "
            "with test.parquet or validation.parquet beside it, or a folder of images for each class."
        )
    return Source(name, Table("all", train.rows, train.refs, train.folder), None)


def _read_split(folder: Path, split: str) -> Table | None:
    for ending in READERS:
        if files := list(folder.glob(f"{split}{ending}")) or sorted(folder.glob(f"{split}-*{ending}")):
            return _table(split, files)
    return _read_images(split, folder / split, folder)


def _table(name: str, files: list[Path]) -> Table:
    parts = [read_file(path) for path in files]
    try:
        rows = datasets.concatenate_datasets(parts)
    except (ValueError, pa.ArrowException) as error:
        raise UserError(f"data: the {name} files in {files[0].parent} do not fit together: {reason(error)}.") from None
    refs = [f"{path.name}#{row}" for path, part in zip(files, parts) for row in range(len(part))]
    return Table(name, rows, refs, files[0].parent)


def _read_images(name: str, folder: Path, start: Path) -> Table | None:
    """The table of the images in class folders, or None where there are none."""
    known = Image.registered_extensions()
    images = sorted(path.relative_to(folder) for path in folder.glob("*/*") if path.suffix.lower() in known)
    images = [image for image in images if not any(map(_hidden, image.parts))]
    if not images:
        return None
    rows = datasets.Dataset.from_dict({"image": list(map(str, images)), "label": [image.parts[0] for image in images]})
    return Table(name, rows, [(folder / image).relative_to(start).as_posix() for image in images], folder)


def _hidden(name: str) -> bool:
    """Of files and folders that notebooks and macOS leave beside the user's own."""
    return name.startswith(".") or name == "__MACOSX"


def read_hub(name: str, source: str, tests: tuple[str, ...] = ("test", "validation")) -> Source:
    """The data set ``owner/name`` or ``owner/name:config``; its first split out of `tests` is the test split."""
    hub_id, _, config = source.partition(":")
    try:
        if not constants.HF_HUB_OFFLINE:
            HfApi().dataset_info(hub_id, timeout=10)  # fails at once, where load_dataset retries for half a minute
        splits = datasets.load_dataset(hub_id, config or None)
    except Exception as error:  # the errors of hub, HTTP client and builders have no common base
        raise UserError(
            f"data.source: {name!r} is not a folder under --data-root, and {hub_id!r} cannot be had "
            f"from the Hugging Face hub: {reason(error)}."
        ) from None
    test = next((split for split in tests if split in splits), None)
    if "train" not in splits:
        raise UserError(f"data.source: {hub_id!r} has the splits {', '.join(splits)}, takes one with a train split.")
    tables = {
        split: Table(split, splits[split], [f"{hub_id}/{split}#{row}" for row in range(len(splits[split]))], None)
        for split in ("train", test)
        if split
    }
    return Source(name, tables["train"], tables[test] if test else None)
