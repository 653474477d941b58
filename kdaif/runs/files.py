"""Files that are either complete or absent: temporary name, fsync, `os.replace`; and the Parquet schemas of a run.

Floats are stored with zstd and BYTE_STREAM_SPLIT and without a dictionary, which would inflate them.
Every Parquet file carries `kdaif.schema` (version) and `kdaif.units` (JSON, column -> unit) in its metadata.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kdaif.config import UserError

SCHEMA_VERSION = 1
ROW_GROUP = 65_536
Fields = Mapping[str, tuple[pa.DataType, str]]  # column -> (type, unit or meaning)
_INT, _FLOAT, _TEXT = pa.int16(), pa.float32(), pa.string()

SAMPLE_FIELDS: Fields = {
    "id": (_TEXT, "stable sample id"),
    "split": (_TEXT, "name of the split"),
    "label": (pa.int32(), "class index, as given"),
    "clean": (pa.int32(), "class index, -1 unknown"),
    "value": (_FLOAT, "as given, where labels are numbers (label is 0), in the source's units; NaN: classes"),
    "clean_value": (_FLOAT, "the clean one of these; NaN unknown"),
    "flipped": (pa.bool_(), "given label differs from the clean one, null unknown"),
    "corrupted": (pa.bool_(), "input was damaged on purpose, null: nothing was done to any"),
    "ref": (_TEXT, "where the source holds the sample"),
    "hash": (_TEXT, "sha1 of the input bytes"),
    "text": (_TEXT, "the sentence, null: the input is an image"),
    "text_pair": (_TEXT, "the second sentence of a pair, null: there is one sentence"),
    "rating": (_FLOAT, "mean of several people's ratings of the sample, on the source's own scale; NaN unknown"),
    "rating_spread": (_FLOAT, "standard deviation of these ratings; NaN unknown"),
}
EPOCH_FIELDS: Fields = {
    "influence": (_FLOAT, "t-statistic over validation samples, positive = helpful"),
    "influence_raw": (_FLOAT, "student's mean over its visits, nats per unit step, positive = helpful"),
    "influence_spread": (_FLOAT, "standard deviation of the student's t over its visits"),
    "student_influence": (_FLOAT, "student's own t-statistic, mean over its visits"),
    "influence_label": (_FLOAT, "as student_influence, of the label's term of the loss alone"),
    "influence_teacher": (_FLOAT, "as student_influence, of the teacher's term of the loss alone"),
    "visits": (pa.int32(), "times the student was scored on it, -1 not measured"),
    "harmful_visits": (pa.int32(), "visits with a negative score, -1 not measured"),
    "weight": (_FLOAT, "as applied; 1 = neutral"),
    "loss": (_FLOAT, "nats, student's cross-entropy on the given label; of a number squared error, over the variance"),
    "teacher_loss": (_FLOAT, "as loss, of the teacher"),
    "margin": (_FLOAT, "logits, given label minus best other; of a number minus the distance, in standard deviations"),
    "student_prediction": (_INT, "class index, -1 not measured"),
    "student_confidence": (_FLOAT, "probability 0..1"),
    "teacher_prediction": (_INT, "class index, -1 not measured"),
    "teacher_confidence": (_FLOAT, "probability 0..1"),
    "student_value": (_FLOAT, "prediction of a number, in the source's units; NaN: labels are classes"),
    "teacher_value": (_FLOAT, "as student_value, of the teacher"),
}
_SHARE = "share 0..1; of numbers Pearson's correlation, -1..1"
METRIC_FIELDS: Fields = {
    "epoch": (pa.int32(), "1 = first"),
    "train_loss": (pa.float64(), "nats"),
    "train_accuracy": (pa.float64(), _SHARE),
    "validation_accuracy": (pa.float64(), _SHARE),
    "test_accuracy": (pa.float64(), _SHARE),
    "test_loss": (pa.float64(), "nats"),
    "class_accuracy": (pa.list_(pa.float64()), "share 0..1, test accuracy of each class"),
    "lr": (pa.float64(), "learning rate at the epoch's end"),
    "flipped_auroc": (pa.float64(), "0..1, influence against known flipped labels"),
}
TIMING_FIELDS: Fields = {
    "epoch": (pa.int32(), "1 = first"),
    "seconds": (pa.float64(), "seconds of the epoch"),
    "overhead": (pa.float64(), "share 0..1 of the epoch spent on influence"),
}


def write_atomic(path: Path, fill: Callable[[IO[bytes]], Any], *, sync: bool = True) -> None:
    """Let `fill` write the content, then make it appear whole under `path`; whatever fails, the old file stays."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            fill(file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, tree: Mapping[str, Any], *, sync: bool = True) -> None:
    content = json.dumps(tree, indent=2).encode()
    write_atomic(path, lambda file: file.write(content), sync=sync)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; raises `UserError` for a missing or damaged one."""
    try:
        tree = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"run: {path.parent} holds no {path.name}, so it is not a run of kdaif.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"run: {path} cannot be read ({' '.join(str(error).split())}).") from None
    if not isinstance(tree, dict):
        raise UserError(f"run: {path} holds a {type(tree).__name__}, not a mapping.")
    return tree


def build_table(
    columns: Mapping[str, Any] | pd.DataFrame,
    fields: Fields,
    metadata: Mapping[str, str] | None = None,
) -> pa.Table:
    """A table of exactly these fields; a missing column is filled with NaN, -1 (integers) or null.

    Raises ValueError for a column that is no field and for columns of different lengths.
    """
    if unknown := [name for name in columns if name not in fields]:
        raise ValueError(f"unknown columns {', '.join(map(str, unknown))}; takes {', '.join(fields)}")
    lengths = {len(values) for _, values in columns.items()}
    if len(lengths) != 1:
        raise ValueError(f"columns of different lengths {sorted(lengths)}")
    rows = lengths.pop()
    arrays = [_column(columns.get(name), kind, rows) for name, (kind, _) in fields.items()]
    units = json.dumps({name: unit for name, (_, unit) in fields.items()})
    stamp = {"kdaif.schema": str(SCHEMA_VERSION), "kdaif.units": units, **(metadata or {})}
    schema = pa.schema([(name, kind) for name, (kind, _) in fields.items()], metadata=stamp)
    return pa.table(arrays, schema=schema)


def _column(values: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if values is not None:
        # NaN is a value here, not a null: "not measured" of a float
        return pa.array(values, type=kind, from_pandas=not pa.types.is_floating(kind))
    if pa.types.is_floating(kind):
        return pa.array(np.full(rows, np.nan, kind.to_pandas_dtype()), type=kind)
    if pa.types.is_integer(kind):
        return pa.array(np.full(rows, -1, kind.to_pandas_dtype()), type=kind)
    return pa.nulls(rows, kind)


def write_table(path: Path, table: pa.Table) -> None:
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    others = [field.name for field in table.schema if field.name not in floats and not pa.types.is_list(field.type)]
    content = pa.BufferOutputStream()  # one write to the disk instead of one a column
    pq.write_table(
        table,
        content,
        compression="zstd",
        compression_level=1,
        use_dictionary=others,
        use_byte_stream_split=floats,
        row_group_size=ROW_GROUP,
    )
    write_atomic(path, lambda file: file.write(content.getvalue()))


def read_table(path: Path, what: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The Parquet file; raises `UserError` saying `what` is missing or damaged."""
    try:
        # pq.read_table opens the file twice and so may meet two versions of it
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(columns) if columns is not None else None)
    except FileNotFoundError:
        raise UserError(f"run: {what} not recorded yet ({path.name} is missing in {path.parent}).") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"run: {path} cannot be read ({' '.join(str(error).split())}).") from None
