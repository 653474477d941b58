"""What people decided about single training samples: a csv of ids to leave out or to relabel (`data.edits`).

The source is left alone: edits are made on the way in, after splits and noise, so that every other sample stays as it was.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kdaif.config import UserError
from kdaif.data.split import Split
from kdaif.edits import read_edits

LEAST = 2  # samples that training needs


def edit(train: Split, file: str, classes: tuple[str, ...], data_root: Path | None) -> Split:
    """The training samples after the edits in the file: without those that have no label, the others with their new one.

    Raises `UserError` for a file that cannot be read, an id that is no training sample or stands there twice, and a label
    that is no class.
    """
    edits = read_edits(file, data_root)
    position = pd.Series(np.arange(len(train)), index=train.ids)
    if unknown := sorted(set(edits["id"]) - set(position.index)):
        raise UserError(
            f"data.edits: {len(unknown)} ids in {file} are none of the {len(train)} training samples (first {unknown[0]!r})."
        )
    known = {name: number for number, name in enumerate(classes)}
    if wrong := sorted(set(edits["label"]) - {"", *known}):
        named = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise UserError(
            f"data.edits: {file} has the label {wrong[0]!r}, takes one of {named}, or none to leave it out."
        )
    at = torch.from_numpy(position[edits["id"]].to_numpy(np.int64, copy=True))
    leave = torch.from_numpy((edits["label"] == "").to_numpy(bool, copy=True))
    labels, stay = train.labels.clone(), torch.ones(len(train), dtype=torch.bool)
    labels[at[~leave]] = torch.tensor([known[name] for name in edits["label"] if name], dtype=labels.dtype)
    stay[at[leave]] = False
    if stay.sum() < LEAST:
        raise UserError(f"data.edits: {file} leaves {int(stay.sum())} training samples, takes {LEAST} or more.")
    return replace(train, labels=labels).subset(stay)
