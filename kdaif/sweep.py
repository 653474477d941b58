"""The grid noise x method x seed: its runs, and a summary that says what share of the oracle's gain was recovered."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kdaif.callbacks import ProgressBar
from kdaif.config import RunConfig, UserError
from kdaif.jobs import claim, ensure_worker, standing
from kdaif.jobs.grid import cells
from kdaif.jobs.launchers import Launcher
from kdaif.jobs.tickets import prepare_all, read_ticket
from kdaif.report import paired, summarise
from kdaif.runs import Run, Taken
from kdaif.train import train, train_new

__all__ = ["Sweep", "summarise", "sweep"]
WAIT_SECONDS = 0.5


class Sweep(NamedTuple):
    """`rows`: the result of every run; `summary`: a line for each method and noise rate, from `summarise` and `paired`."""

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
    launcher: Launcher | None = None,
) -> Sweep:
    """Trains what is missing of the grid, one run after the other, or has it trained by a launcher.

    A done run of the same config is not repeated, if the program that made it is still the same; one that was stopped goes on,
    and one that another process trains meanwhile is waited for.
    Raises `UserError` for an unknown method or a rate out of range, before anything is trained; with a launcher, after all
    runs have ended, for one that has no result.
    """
    began = time.monotonic()
    grid = cells(config, methods=methods, noise=noise, seeds=seeds)
    if launcher is not None:
        rows = _launched(grid, data_root, launcher)
    else:
        rows = [_result(cell, data_root, f"[{position}/{len(grid)}] ") for position, cell in enumerate(grid, 1)]
    differences = {(line["method"], line["noise"]): line for line in paired(rows)}
    summary = [line | differences.get((line["method"], line["noise"]), {}) for line in summarise(rows)]
    return Sweep(rows, summary, time.monotonic() - began)


def _result(cell: RunConfig, data_root: Path | None, place: str) -> dict[str, Any]:
    """The result of the cell's run, which is trained here unless it stands already."""
    label = f"{place}{cell.method}, noise {cell.noise.rate:g}, seed {cell.seed}"
    while True:
        run = standing(cell, data_root)
        if run is not None and (result := run.result()) and run.status().state == "done":
            return result
        if run is not None and _is_trained_elsewhere(run):
            time.sleep(WAIT_SECONDS)
            continue
        with suppress(Taken):  # somebody else was quicker
            if run is None:
                return train_new(cell, data_root, [ProgressBar(label)], new=_claim)
            return train(run, data_root, [ProgressBar(label)])


def _launched(grid: Sequence[RunConfig], data_root: Path | None, launcher: Launcher) -> list[dict[str, Any]]:
    """The result of every cell; stopped half-way (Ctrl-C), what is on its way is cancelled."""
    runs = prepare_all(grid, data_root=data_root)
    submitted = [run for run in dict.fromkeys(runs) if run.status().state != "done"]
    left = list(submitted)
    try:
        for run in submitted:
            launcher.submit(run)
        while left := [run for run in left if launcher.poll(run)]:
            print(f"{len(runs) - len(left)} of {len(runs)} runs have ended", end="\r", file=sys.stderr, flush=True)
            time.sleep(WAIT_SECONDS)
    except (KeyboardInterrupt, SystemExit):
        for run in left:
            with suppress(UserError):
                launcher.cancel(run)
        raise
    results = [run.result() for run in runs]
    if lost := [run for run, result in zip(runs, results) if result is None]:
        status = lost[0].status()
        why = f" ({status.message.rstrip('.')})" if status.message else ""
        raise UserError(f"sweep: {len(lost)} of {len(runs)} runs have no result, {lost[0].id} is {status.state}{why}.")
    return [result for result in results if result is not None]


def _claim(config: RunConfig, data_root: Path | None) -> Run:
    run = claim(config, data_root)
    if run is None:
        raise Taken("run: somebody else has made it.")
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
