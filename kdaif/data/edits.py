"""What people decided about single training samples: a csv of ids to leave out or to relabel (`data.edits`).

The source is left alone: edits are made on the way in, after splits and noise, so that every other sample stays as it was.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kdaif.config import UserError
from kdaif.data.split import Scale, Split
from kdaif.edits import read_edits

LEAST = 2  # samples that training needs


def edit(
    train: Split, file: str, classes: tuple[str, ...], data_root: Path | None, scale: Scale | None = None
) -> Split:
    """The training samples after the edits in the file: without those that have no label, the others with their new one.

    Raises `UserError` for a file that cannot be read, an id that is no training sample or stands there twice, a sample of
    another hash than the file says, and a label that is no class; where there is a `scale`, labels are numbers in units of
    their own.
    """
    edits = read_edits(file, data_root)
    position = pd.Series(np.arange(len(train)), index=train.ids)
    if unknown := sorted(set(edits["id"]) - set(position.index)):
        raise UserError(
            f"data.edits: {len(unknown)} ids in {file} are none of the {len(train)} training samples (first {unknown[0]!r})."
        )
    at = torch.from_numpy(position[edits["id"]].to_numpy(np.int64, copy=True))
    if (edits["hash"] != "").any():
        _check_hashes(edits, train.subset(at), file)
    new = _numbers(edits["label"], file, scale) if scale else _classes(edits["label"], file, classes)
    leave = torch.from_numpy((edits["label"] == "").to_numpy(bool, copy=True))
    labels, stay = train.labels.clone(), torch.ones(len(train), dtype=torch.bool)
    labels[at[~leave]] = torch.from_numpy(new).to(labels.dtype)
    stay[at[leave]] = False
    if stay.sum() < LEAST:
        raise UserError(f"data.edits: {file} leaves {int(stay.sum())} training samples, takes {LEAST} or more.")
    return replace(train, labels=labels).subset(stay)


def _check_hashes(edits: pd.DataFrame, named: Split, file: str) -> None:
    """Ids count rows: raises `UserError` where rows have moved in the source since the edits were made."""
    other = (edits["hash"] != "").to_numpy() & (edits["hash"].to_numpy() != np.array(named.hashes()))
    if other.any():
        raise UserError(
            f"data.edits: {other.sum()} samples have another content than the column hash of {file} says (first "
            f"{named.ids[other.argmax()]!r}); the data or how they are read have changed since, takes edits of these data."
        )


def _classes(given: pd.Series, file: str, classes: tuple[str, ...]) -> np.ndarray:
    """The numbers of the classes that are named, in order."""
    known = {name: number for number, name in enumerate(classes)}
    if wrong := sorted(set(given) - {"", *known}):
        named = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise UserError(
            f"data.edits: {file} has the label {wrong[0]!r}, takes one of {named}, or none to leave it out."
        )
    return np.array([known[name] for name in given if name], dtype=np.int64)


def _numbers(given: pd.Series, file: str, scale: Scale) -> np.ndarray:
    """The numbers that are given, in order, standardised."""
    words = given[given != ""]
    values = pd.to_numeric(words, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).all():
        wrong = words.to_numpy()[~np.isfinite(values)][0]
        raise UserError(f"data.edits: {file} has the label {wrong!r}, takes a number, or none to leave it out.")
    return scale.standard(values)
