"""The selection: which samples the page speaks of, in which order, and how they leave as a file. Pure functions."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

ALL_CLASSES, ALL_SAMPLES = "All classes", "All samples"
HARMFUL_TILES, HELPFUL_TILES = 12, 6  # of a page of the gallery
SLICE = "Slice: "  # before a saved slice's name, among what can be shown

# name on the page -> which rows of the sample table
SHOWS: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
    ALL_SAMPLES: lambda table: table["rank"] >= 0,
    "Looks harmful": lambda table: table["verdict"] == "harmful",
    "Looks helpful": lambda table: table["verdict"] == "helpful",
    "Flipped": lambda table: table["flipped"].fillna(False),
    "Missed: flipped, yet not judged harmful": lambda table: (
        table["flipped"].fillna(False) & (table["verdict"] != "harmful")
    ),
    "False alarms: harmful, yet rightly labelled": lambda table: (
        ~table["flipped"].fillna(True) & (table["verdict"] == "harmful")
    ),
    "Corrupted inputs": lambda table: table["corrupted"].fillna(False),
}


@dataclass(frozen=True)
class Selection:
    """A filter over the sample table; open ends are None."""

    given: str = ALL_CLASSES
    show: str = ALL_SAMPLES
    field: str = "weight"
    low: float | None = None
    high: float | None = None
    rather: str = ALL_CLASSES  # what the teacher (else the student) takes the sample for: with `given` a confusion pair
    words: str = ""  # to be found in id or reference, whatever the case
    members: np.ndarray | None = None  # rows of the saved set that `show` names

    @property
    def range(self) -> tuple[float, float] | None:
        if self.low is None and self.high is None:
            return None
        low = float("-inf") if self.low is None else self.low
        return low, float("inf") if self.high is None else self.high

    def kept(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows pass all but the range, whatever their weight or influence: what the histogram counts; bool."""
        keep = np.ones(len(table), bool)
        if self.members is not None:
            keep = np.isin(np.arange(len(table)), self.members)
        elif self.show != ALL_SAMPLES:
            keep = SHOWS[self.show](table).to_numpy(bool)
        if self.given != ALL_CLASSES:
            keep = keep & (table["given"] == self.given).to_numpy(bool)
        if self.rather != ALL_CLASSES:
            keep = keep & (opinion(table) == self.rather).to_numpy(bool)
        if self.words:
            keep = keep & _contains(table, self.words)
        return keep

    def rows(self, table: pd.DataFrame, order: np.ndarray | None = None) -> np.ndarray:
        """The selected rows, most harmful first, or by `order` (a value a row of the table, the lowest first).

        Rows and not a frame: at a million samples a sorted copy of the table would take a second, and a page shows a few.
        """
        keep = self.kept(table)
        if self.range is not None:
            keep = keep & table[self.field].between(*self.range).to_numpy(bool)
        found = np.flatnonzero(keep)
        values = table["rank"].to_numpy() if order is None else order
        return found[np.argsort(values[found], kind="stable")]


def opinion(table: pd.DataFrame) -> pd.Series:
    """The class that the teacher (else the student) takes each sample for."""
    return table["suggested"].where(table["suggested"] != "", table["given"])


def shows(table: pd.DataFrame, slices: list[str]) -> list[str]:
    """What can be shown of a run: without wrong labels that are known, nothing is missed or a false alarm."""
    known = {
        "Corrupted inputs": bool(table["corrupted"].fillna(False).any()),
        **dict.fromkeys(list(SHOWS)[3:6], bool(table["flipped"].notna().any())),
    }
    return [name for name in SHOWS if known.get(name, True)] + [SLICE + name for name in slices]


def page_count(selected: int) -> int:
    return max(1, -(-selected // (HARMFUL_TILES + HELPFUL_TILES)))


def gallery_groups(
    rows: np.ndarray, page: int, first: str = "Most harmful", last: str = "Most helpful"
) -> dict[str, np.ndarray]:
    """Title -> rows of a page (from 1): from the `first` end and from the `last` end, no sample in both."""
    if len(rows) <= HARMFUL_TILES + HELPFUL_TILES:
        return {f"{first} first": rows}
    cut = -(-len(rows) * HARMFUL_TILES // (HARMFUL_TILES + HELPFUL_TILES))
    harmful, helpful = rows[:cut], rows[cut:][::-1]
    return {
        first: harmful[HARMFUL_TILES * (page - 1) : HARMFUL_TILES * page],
        last: helpful[HELPFUL_TILES * (page - 1) : HELPFUL_TILES * page],
    }


def brushed_range(event: Mapping[str, Any]) -> tuple[float, float] | None:
    """Ends of the box drawn in the histogram, rounded to what the page shows; None where nothing was drawn."""
    boxes = event["selection"]["box"]
    if not boxes:
        return None
    ends = [round(float(end), 2) for end in boxes[0]["x"]]
    return min(ends), max(ends)


def exported(selected: pd.DataFrame, marks: pd.DataFrame, run_id: str, epoch: int, seed: int) -> pd.DataFrame:
    """The selection in columns that users of cleanlab and pandas know, each row with the run, epoch and seed of its figures.

    `label_quality` is 0..1, lower = worse: the weight where the run measured influence, else the probability that teacher or
    student gives to the label. `new_label` is what was marked ("" with `marked`: to be left out).
    """
    of_row = marks.set_index("row")["label"].astype(str)
    measured = selected["influence"].notna()
    doubt = selected["teacher_loss"].where(selected["teacher_loss"].notna(), selected["loss"])
    return pd.DataFrame(
        {
            "id": selected["id"],
            "ref": selected["ref"],
            "given_label": selected["given"],
            "predicted_label": opinion(selected),
            "label_quality": selected["weight"].clip(0, 1).where(measured, np.exp(-doubt)),
            "is_label_issue": selected["verdict"] == "harmful",
            "influence": selected["influence"],
            "weight": selected["weight"],
            "loss": selected["loss"],
            "true_label": selected["true"],
            "flipped": selected["flipped"],
            "corrupted": selected["corrupted"],
            "marked": selected.index.isin(of_row.index),
            "new_label": of_row.reindex(selected.index).fillna("").astype(str),
            "run_id": run_id,
            "epoch": epoch,
            "seed": seed,
        }
    ).rename_axis("row")


def to_bytes(table: pd.DataFrame, kind: str) -> bytes:
    """As a csv or parquet file."""
    if kind == "csv":
        return table.to_csv().encode()
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


def _contains(table: pd.DataFrame, words: str) -> np.ndarray:
    """Whose id, reference or sentences have these words, whatever the case; bool."""
    found = np.zeros(len(table), bool)
    for column in ("id", "ref", "text", "text_pair"):
        if column in table and table[column].notna().any():
            found |= table[column].str.contains(words, case=False, regex=False, na=False).to_numpy(bool)
    return found
