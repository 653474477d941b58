"""Which column holds what, and labels as class numbers."""

from typing import NamedTuple

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float64, Int64, Shaped

from kdaif.config import Columns, UserError

INPUT_NAMES = ("image", "img", "images", "image_path", "path", "file_path", "file", "file_name", "filename")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category", "y")
# usual columns of sentences, and which column is then the second sentence of a pair
TEXT_NAMES = {
    "text": "text_pair",
    "sentence": None,
    "sentence1": "sentence2",
    "premise": "hypothesis",
    "question1": "question2",
    "review": None,
    "content": None,
    "comment": None,
}
LONGEST = 100  # digits of a label that is a number: Python makes none of thousands


class Found(NamedTuple):
    """Columns that exist."""

    input: str | None  # the image
    label: str
    given: str | None
    texts: tuple[str, ...] = ()  # the sentence, or both of a pair; empty where the inputs are images
    rating: str | None = None
    rating_spread: str | None = None


NOTHING_KNOWN = Columns()


def find_columns(rows: datasets.Dataset, wanted: Columns, known: Columns = NOTHING_KNOWN) -> Found:
    """The wanted columns, else those `known` of the source, else found by type and usual name.

    Raises `UserError` for a column that does not exist, or where it is not clear which one is meant.
    """
    for field, name in wanted:
        if name is not None and name not in rows.column_names:
            raise UserError(f"data.columns.{field}: got {name!r}, takes one of {', '.join(rows.column_names)}.")
    own = wanted.input or wanted.text  # columns of the user's own choice: the source's are not mixed with them
    known = known.model_copy(update={"input": None, "text": None, "text_pair": None}) if own else known
    columns = known.model_copy(update=wanted.model_dump(exclude_none=True))
    label = columns.label or _find_label(rows, {columns.input, columns.text, columns.given})
    if columns.input and columns.text:
        raise UserError("data.columns: got both input (an image) and text (a sentence), takes one of them.")
    if columns.text_pair and not columns.text:
        raise UserError("data.columns.text_pair: got no data.columns.text beside it, takes both sentences of a pair.")
    image, texts = columns.input, tuple(name for name in (columns.text, columns.text_pair) if name)
    if not image and not texts:
        image, texts = _find_input(rows, {label, columns.given, columns.rating, columns.rating_spread})
    return Found(image, label, columns.given, texts, columns.rating, columns.rating_spread)


def numbers(rows: datasets.Dataset, column: str, field: str) -> Float64[np.ndarray, "rows"]:
    """A column of numbers, NaN where one is missing; raises `UserError`, naming `field`, for any other column."""
    kind = rows.data.schema.field(column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UserError(f"{field}: column {column!r} is {kind}, takes numbers.")
    return rows.data.column(column).to_pandas().to_numpy(np.float64, na_value=np.nan)


def holds_images(kind: pa.DataType) -> bool:
    """Whether a column of this type holds encoded images: bytes, or a struct of bytes and path."""
    in_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return in_struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def holds_strings(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def class_names(rows: datasets.Dataset, columns: dict[str, str]) -> tuple[str, ...]:
    """The classes of label columns: a ClassLabel's own names, else the values found, numbers in order before words.

    `columns` by the config field that names them, for the `UserError` about a missing label.
    """
    found: set[str] = set()
    for field, column in columns.items():
        feature = rows.features[column]
        if isinstance(feature, datasets.ClassLabel):
            return tuple(feature.names)
        found.update(_names(rows, column, field))
    return tuple(sorted(found, key=lambda name: (0, int(name), "") if _is_number(name) else (1, 0, name)))


def encode(rows: datasets.Dataset, column: str, classes: tuple[str, ...], field: str) -> Int64[np.ndarray, "rows"]:
    """A label column (ClassLabel, whole numbers or words) as class numbers 0..len(classes)-1.

    Numbers count as class numbers where the classes have names.
    Raises `UserError`, naming `field`, for a missing or unknown label.
    """
    numbers = {} if any(map(_is_number, classes)) else {str(number): number for number in range(len(classes))}
    codes = _names(rows, column, field).map(numbers | {name: number for number, name in enumerate(classes)})
    if codes.isna().any():
        unknown = _names(rows, column, field)[codes.isna()].iloc[0]
        known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise UserError(f"{field}: column {column!r} has the label {unknown!r}, takes the train split's: {known}.")
    return codes.to_numpy(np.int64)


def descriptions(rows: datasets.Dataset, columns: Found) -> dict[str, Shaped[np.ndarray, "rows"]]:
    """What a table says of its samples beside input and label, as words: columns of classes, words, whole numbers, yes and no.

    An empty cell is "".
    """
    found = {}
    taken = {columns.input, columns.label, columns.given, *columns.texts}
    for name in rows.column_names:
        feature, kind = rows.features[name], rows.data.schema.field(name).type
        if name in taken or not (holds_strings(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            continue
        # whole numbers with empty cells would become floats, large ones others
        values = rows.data.column(name).to_pandas(integer_object_nulls=True)
        if isinstance(feature, datasets.ClassLabel):
            values = values.map(dict(enumerate(feature.names)))
        found[name] = values.astype("string").fillna("").to_numpy(object)  # fixed width would be that of the longest
    return found


def _names(rows: datasets.Dataset, column: str, field: str) -> pd.Series:
    """A label column as words: names of ClassLabel, "3" for 3."""
    feature, values = rows.features[column], rows.data.column(column).to_pandas()
    missing = values.isna()
    if isinstance(feature, datasets.ClassLabel):
        missing |= ~values.between(0, feature.num_classes - 1)  # -1 marks an unlabelled sample on the hub
    if missing.any():
        raise UserError(
            f"{field}: column {column!r} has {missing.sum()} rows without a label (first row {missing.argmax()}), "
            "takes one for every sample."
        )
    if isinstance(feature, datasets.ClassLabel):
        return values.map(dict(enumerate(feature.names)))
    if pd.api.types.is_float_dtype(values) and (values % 1 == 0).all():
        if (large := values[values.abs() >= 2 ** (np.finfo(values.dtype).nmant + 1)]).size:
            raise UserError(
                f"{field}: column {column!r} has the number {large.iloc[0]:g}, too large for a float to tell it from "
                "the next one, takes class names or whole numbers."
            )
        return values.astype("int64").astype(str)
    if pd.api.types.is_integer_dtype(values):
        return values.astype(str)
    if pd.api.types.is_bool_dtype(values) or holds_strings(rows.data.schema.field(column).type):
        return values.astype(str)
    numeric = pd.api.types.is_float_dtype(values)
    other = "; numbers to be predicted need data.task=regression" if numeric else ""
    raise UserError(f"{field}: column {column!r} is {feature}, takes class names or whole numbers{other}.")


def _find_input(rows: datasets.Dataset, taken: set[str | None]) -> tuple[str | None, tuple[str, ...]]:
    """The column of images, or else the one or two of sentences."""
    kinds = {name: rows.data.schema.field(name).type for name in rows.column_names if name not in taken}
    images = [name for name, kind in kinds.items() if holds_images(kind)]
    words = [name for name, kind in kinds.items() if holds_strings(kind)]
    if len(images) == 1:
        return images[0], ()
    if name := _usual(INPUT_NAMES, images or words):
        return name, ()
    if not images and (name := _usual(tuple(TEXT_NAMES), words) or (words[0] if len(words) == 1 else None)):
        second = TEXT_NAMES.get(name.lower())
        pair = _usual((second,), words) if second else None
        return None, (name, pair) if pair else (name,)
    wanted = (
        "data.columns.text: name the column of sentences" if words else "data.columns.input: name the column of images"
    )
    raise UserError(f"{wanted}; the table has {', '.join(rows.column_names)}.")


def _find_label(rows: datasets.Dataset, taken: set[str | None]) -> str:
    free = [name for name in rows.column_names if name not in taken]
    typed = [name for name in free if isinstance(rows.features[name], datasets.ClassLabel)]
    if name := _usual(LABEL_NAMES, free):
        return name
    if len(typed) == 1:
        return typed[0]
    raise UserError(f"data.columns.label: name the column of labels; the table has {', '.join(rows.column_names)}.")


def _usual(usual: tuple[str, ...], names: list[str]) -> str | None:
    by_lower = {name.lower(): name for name in names}
    return next((by_lower[name] for name in usual if name in by_lower), None)


def _is_number(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST
