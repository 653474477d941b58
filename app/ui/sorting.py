"""The orders in which samples can be looked at: a value a sample, at an epoch or over the whole training."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from app.ui.store import course_of
from kdaif.runs import Run


class Order(NamedTuple):
    """The lowest value comes first."""

    values: Callable[[Run, pd.DataFrame], np.ndarray]
    first: str  # what the samples at the beginning are called
    last: str
    meaning: str


def _mean(field: str, sign: float) -> Callable[[Run, pd.DataFrame], np.ndarray]:
    return lambda run, table: sign * course_of(run, field)[0].mean


def _moving(run: Run, table: pd.DataFrame) -> np.ndarray:
    return -course_of(run, "weight")[0].std


ORDERS: Mapping[str, Order] = {
    "Influence": Order(
        lambda run, table: table["rank"].to_numpy(),
        "Most harmful",
        "Most helpful",
        "influence at this epoch",
    ),
    "Weight": Order(lambda run, table: table["weight"].to_numpy(), "Lowest weight", "Highest weight", "at this epoch"),
    "Loss": Order(lambda run, table: -table["loss"].to_numpy(), "Highest loss", "Lowest loss", "at this epoch"),
    "Disagreement": Order(
        lambda run, table: -table["teacher_loss"].to_numpy(),
        "Teacher disagrees most",
        "Teacher agrees most",
        "how improbable the given label is to the teacher, or how far from what it says",
    ),
    "Uncertainty": Order(
        lambda run, table: table["student_confidence"].to_numpy(),
        "Student least sure",
        "Student surest",
        "how unsure the student is of its own answer at this epoch",
    ),
    "Mean influence": Order(
        _mean("influence", 1), "Most harmful on average", "Most helpful on average", "of all epochs"
    ),
    "Mean weight": Order(_mean("weight", 1), "Lowest mean weight", "Highest mean weight", "of all epochs"),
    "Mean loss": Order(_mean("loss", -1), "Highest mean loss", "Lowest mean loss", "of all epochs"),
    "Mean uncertainty": Order(
        _mean("student_confidence", 1), "Student least sure on average", "Student surest on average", "of all epochs"
    ),
    "Moving weight": Order(_moving, "Weight moves most", "Weight moves least", "standard deviation over the epochs"),
}


def order_of(run: Run, table: pd.DataFrame, name: str) -> np.ndarray:
    """The values to sort the table by, a value a row. What was not measured comes last."""
    return ORDERS[name].values(run, table)


def offered(table: pd.DataFrame) -> list[str]:
    """The orders that a run has values for."""
    need = {"Disagreement": "teacher_loss", **dict.fromkeys(("Influence", "Mean influence"), "influence")}
    need |= dict.fromkeys(("Uncertainty", "Mean uncertainty"), "student_confidence")
    known = [name for name in ORDERS if name not in need or bool(table[need[name]].notna().any())]
    alike = "Influence" not in known and table["weight"].min() == table["weight"].max()
    return [name for name in known if not (alike and "weight" in name.lower())]


def judged(table: pd.DataFrame) -> bool:
    """Whether any sample of the run is judged harmful: where none is, the lowest influence is no harm."""
    return bool((table["verdict"] == "harmful").any())


def ends(name: str, influence: np.ndarray, harm: bool = True) -> tuple[str, str]:
    """What the samples at the beginning and at the end are called; `influence`: in this order, `harm`: is any `judged`."""
    first, last = ORDERS[name].first, ORDERS[name].last
    if name == "Influence" and len(influence):
        first = "Least helpful" if influence[0] > 0 else first if harm else "Lowest influence"
        last = "Least harmful" if influence[-1] < 0 else last
    return first, last
