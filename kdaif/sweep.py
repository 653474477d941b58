"""The grid noise x method x seed: its runs, and a summary that says what share of the oracle's gain was recovered."""

import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kdaif.callbacks import ProgressBar
from kdaif.config import RunConfig, lookup, parse_config
from kdaif.methods import METHODS
from kdaif.runs import list_runs
from kdaif.train import train_new


class Sweep(NamedTuple):
    """`rows`: the result of every run; `summary`: a line for each method and noise rate."""

    rows: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    seconds: float


def sweep(
    config: RunConfig,
    *,
    methods: Sequence[str],
    noise: Sequence[float],
    seeds: Sequence[int],
    data_root: Path | None = None,
) -> Sweep:
    """Trains what is missing of the grid, one run after the other.

    A done run of the same config is not repeated, if the program that made it is still the same.

    Raises `UserError` for an unknown method or a rate out of range, before anything is trained.
    """
    began = time.monotonic()
    for method in methods:
        lookup(METHODS, method, "--methods")
    grid = list(dict.fromkeys(_variant(config, *cell) for cell in product(noise, seeds, methods)))
    done = {run.config: run.result for run in list_runs() if run.config and run.result and run.by_this_program()}
    rows = []
    for position, cell in enumerate(grid, 1):
        result = done.get(cell)
        if result is None:
            label = f"[{position}/{len(grid)}] {cell.method}, noise {cell.noise.rate:g}, seed {cell.seed}"
            result = train_new(cell, data_root, [ProgressBar(label)])
        rows.append(result)
    return Sweep(rows, summarise(rows), time.monotonic() - began)


def _variant(config: RunConfig, rate: float, seed: int, method: str) -> RunConfig:
    tree = config.model_dump(mode="json")
    # at rate 0 the kind stays: the same code runs, and clean labels are known
    kind = config.noise.kind if config.noise.kind != "none" else "symmetric"
    return parse_config(
        {**tree, "method": method, "seed": seed, "noise": {**tree["noise"], "kind": kind, "rate": rate}}
    )


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation of the last epoch's test accuracy, and the share of the oracle gap recovered:
    (method - kd) / (oracle - kd) of the means; None without both, or where the oracle gains nothing."""
    frame = pd.DataFrame(rows)
    groups = frame.groupby(["noise", "method"], sort=False)["test_accuracy"].agg(["mean", "std", "count"]).reset_index()
    means = {(line["noise"], line["method"]): line["mean"] for line in groups.to_dict("records")}
    lines = []
    for line in groups.to_dict("records"):
        kd, oracle = (means.get((line["noise"], method)) for method in ("kd", "oracle"))
        gain = None if kd is None or oracle is None or oracle <= kd else (line["mean"] - kd) / (oracle - kd)
        lines.append(
            {
                "method": line["method"],
                "noise": line["noise"],
                "runs": int(line["count"]),
                "mean": float(line["mean"]),
                "std": None if pd.isna(line["std"]) else float(line["std"]),
                "oracle_gap_recovered": gain,
            }
        )
    return lines
