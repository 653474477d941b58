"""The selection: which samples the page speaks of, in which order, and how they leave as a file. Pure functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

ALL_CLASSES = "All classes"
HARMFUL_TILES, HELPFUL_TILES = 12, 6  # of a page of the gallery
EXPORTED = ["id", "ref", "given", "suggested", "true", "flipped", "verdict", "influence", "weight", "loss"]

# name on the page -> which rows of the sample table
SHOWS: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
    "All samples": lambda table: pd.Series(True, table.index),
    "Looks harmful": lambda table: table["verdict"] == "harmful",
    "Looks helpful": lambda table: table["verdict"] == "helpful",
    "Flipped": lambda table: table["flipped"].fillna(False),
    "Missed: flipped, yet not judged harmful": lambda table: (
        table["flipped"].fillna(False) & (table["verdict"] != "harmful")
    ),
    "False alarms: harmful, yet rightly labelled": lambda table: (
        ~table["flipped"].fillna(True) & (table["verdict"] == "harmful")
    ),
}


@dataclass(frozen=True)
class Selection:
    """A filter over the sample table; open ends are None."""

    given: str = ALL_CLASSES
    show: str = "All samples"
    field: str = "weight"
    low: float | None = None
    high: float | None = None

    @property
    def range(self) -> tuple[float, float] | None:
        if self.low is None and self.high is None:
            return None
        low = float("-inf") if self.low is None else self.low
        return low, float("inf") if self.high is None else self.high

    def filtered(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows that pass class and show, whatever their weight or influence: what the histogram counts."""
        keep = SHOWS[self.show](table).astype(bool)
        if self.given != ALL_CLASSES:
            keep &= table["given"] == self.given
        return table[keep]

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """The selected rows, most harmful first."""
        kept = self.filtered(table)
        if self.range is not None:
            kept = kept[kept[self.field].between(*self.range)]
        return kept.sort_values("rank")


def page_count(selected: int) -> int:
    return max(1, -(-selected // (HARMFUL_TILES + HELPFUL_TILES)))


def gallery_groups(selected: pd.DataFrame, page: int) -> dict[str, pd.DataFrame]:
    """Title -> rows of a page (from 1): from the harmful end and from the helpful end, no sample in both."""
    if len(selected) <= HARMFUL_TILES + HELPFUL_TILES:
        return {"Most harmful first": selected}
    cut = -(-len(selected) * HARMFUL_TILES // (HARMFUL_TILES + HELPFUL_TILES))
    harmful, helpful = selected.iloc[:cut], selected.iloc[cut:].iloc[::-1]
    return {
        "Most harmful": harmful.iloc[HARMFUL_TILES * (page - 1) : HARMFUL_TILES * page],
        "Most helpful": helpful.iloc[HELPFUL_TILES * (page - 1) : HELPFUL_TILES * page],
    }


def brushed_range(event: Mapping[str, Any]) -> tuple[float, float] | None:
    """Ends of the box drawn in the histogram, rounded to what the page shows; None where nothing was drawn."""
    boxes = event["selection"]["box"]
    if not boxes:
        return None
    ends = [round(float(end), 2) for end in boxes[0]["x"]]
    return min(ends), max(ends)


def to_csv(selected: pd.DataFrame, run_id: str, epoch: int, seed: int) -> str:
    """The selection as csv, each row with the run, epoch and seed that its figures come from."""
    return selected[EXPORTED].assign(run_id=run_id, epoch=epoch, seed=seed).to_csv(index_label="row")
