"""The grid noise x method x seed: its runs, and a summary that says what share of the oracle's gain was recovered."""

import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from kdaif.callbacks import ProgressBar
from kdaif.config import RunConfig, lookup, parse_config
from kdaif.methods import METHODS
from kdaif.report import summarise
from kdaif.runs import list_runs
from kdaif.train import train_new

__all__ = ["Sweep", "summarise", "sweep"]


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
