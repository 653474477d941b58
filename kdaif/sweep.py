"""The grid noise x method x seed: its runs, and a summary that says what share of the oracle's gain was recovered."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdaif.callbacks import ProgressBar
from kdaif.config import RunConfig, UserError
from kdaif.jobs import claim, ensure_worker, standing
from kdaif.jobs.grid import cells
from kdaif.jobs.tickets import read_ticket
from kdaif.report import paired, summarise
from kdaif.runs import Run
from kdaif.train import train, train_new

__all__ = ["Sweep", "summarise", "sweep"]
WAIT_SECONDS = 0.5


class Sweep(NamedTuple):
    """`rows`: the result of every run; `summary`: a line for each method and noise rate, from `summarise` and `paired`."""

    rows: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    seconds: float


class _Taken(Exception):
    """Somebody else was quicker to make the run."""


def sweep(
    config: RunConfig,
    *,
    methods: Sequence[str],
    noise: Sequence[float],
    seeds: Sequence[int],
    data_root: Path | None = None,
) -> Sweep:
    """Trains what is missing of the grid, one run after the other.

    A done run of the same config is not repeated, if the program that made it is still the same; one that was stopped goes on,
    and one that another process trains meanwhile is waited for.
    Raises `UserError` for an unknown method or a rate out of range, before anything is trained.
    """
    began = time.monotonic()
    grid = cells(config, methods=methods, noise=noise, seeds=seeds)
    rows = []
    for position, cell in enumerate(grid, 1):
        label = f"[{position}/{len(grid)}] {cell.method}, noise {cell.noise.rate:g}, seed {cell.seed}"
        rows.append(_result(cell, data_root, label))
    differences = {(line["method"], line["noise"]): line for line in paired(rows)}
    summary = [line | differences.get((line["method"], line["noise"]), {}) for line in summarise(rows)]
    return Sweep(rows, summary, time.monotonic() - began)


def _result(cell: RunConfig, data_root: Path | None, label: str) -> dict[str, Any]:
    """The result of the cell's run, which is trained here unless it stands already."""
    while True:
        run = standing(cell)
        if run is None:
            try:
                return train_new(cell, data_root, [ProgressBar(label)], new=_claim)
            except _Taken:
                continue
        if (result := run.result()) and run.status().state == "done":
            return result
        if _is_trained_elsewhere(run):
            time.sleep(WAIT_SECONDS)
        else:
            return train(run, data_root, [ProgressBar(label)])


def _claim(config: RunConfig) -> Run:
    run = claim(config)
    if run is None:
        raise _Taken
    return run


def _is_trained_elsewhere(run: Run) -> bool:
    if read_ticket(run.id) is not None:
        ensure_worker()  # the last one may have been killed
        return True
    if run.status().state == "running":
        return True
    try:
        with run.hold():
            return False
    except UserError:
        return True
