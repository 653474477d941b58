"""Tickets: which runs should be trained to their end, and how a config becomes one run and never two.

``queue/tickets/<run id>.json`` in the cache folder says that a run waits for a worker or is in its hands; it goes when the run
is done, failed for good, or cancelled. Tickets are written before anything is started, so what is submitted is not lost.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from kdaif.config import RunConfig, UserError
from kdaif.jobs import queue
from kdaif.runs import Run, Taken, cache_root, list_runs
from kdaif.runs.files import read_json, write_json
from kdaif.runs.sameness import named_files, stamp, stamped_run

WAIT_SECONDS = 60.0  # for somebody else's submission: it takes milliseconds a run


class Ticket(BaseModel):
    """What the worker must know of a run beside its folder."""

    model_config = ConfigDict(frozen=True)

    priority: int = 0  # higher is sooner
    submitted: float  # seconds since 1970
    cwd: str  # where the config's relative paths start
    attempts: int = 0  # starts that ended without a new epoch
    epoch: int = 0  # epochs recorded at the last start


def submit(config: RunConfig, *, data_root: Path | None = None, priority: int = 0) -> Run:
    """Queue one run of this config, detached from the caller, and return it at once; see `submit_all`."""
    return submit_all([config], data_root=data_root, priority=priority)[0]


def submit_all(configs: Sequence[RunConfig], *, data_root: Path | None = None, priority: int = 0) -> list[Run]:
    """The run of each config, in their order; a worker trains what is not done, one after the other on each device.

    A run of the same config by the same program on the same files is never made twice, whoever submits at the same time: one that
    is done, waits or runs is returned as it is, one that was stopped or failed goes on from its last checkpoint. Higher priority
    first; within one priority the order is kept, so that runs with the same teacher find it trained.
    """
    from kdaif.jobs.worker import ensure_worker

    with submissions():
        runs = _runs_of(configs, data_root)
        waiting = [run for run in dict.fromkeys(runs) if _wants_ticket(run)]
        for run in waiting:
            _issue(run, priority)
    if waiting:
        ensure_worker()
    return runs


def prepare_all(configs: Sequence[RunConfig], *, data_root: Path | None = None) -> list[Run]:
    """As `submit_all`, for a caller who has them trained: what was stopped waits again, and nothing is queued."""
    with submissions():
        runs = _runs_of(configs, data_root)
        for run in dict.fromkeys(runs):
            if _wants_ticket(run):
                _renew(run)
    return runs


def resume(run: Run, *, priority: int = 0) -> None:
    """Queue a run that was stopped or failed: it goes on from its last checkpoint.

    Raises `UserError` for one that is running or done.
    """
    from kdaif.jobs.worker import ensure_worker

    if (state := run.status().state) in ("running", "done"):
        raise UserError(f"resume: run {run.id} is {state}, takes a run that was stopped before its end.")
    with submissions():
        if _wants_ticket(run):
            _issue(run, priority)
    ensure_worker()


def claim(config: RunConfig, data_root: Path | None) -> Run | None:
    """A new run of this config for the caller to train; None where one stands already, see `standing`."""
    with submissions():
        return None if config in standing_runs(data_root) else stamped_run(config, data_root)


def standing(config: RunConfig, data_root: Path | None) -> Run | None:
    """The run of this config by this program on the files that it names as they are now: the done one, else one that is under
    way, else the newest; None without any."""
    return standing_runs(data_root).get(config)


def standing_runs(data_root: Path | None) -> dict[RunConfig, Run]:
    """`standing` of every config that has a run."""
    found: dict[RunConfig, tuple[int, Run]] = {}
    stamp_of = cache(stamp)
    for summary in list_runs():
        if summary.config is None or summary.status is None or not summary.by_this_program():
            continue
        state = summary.status.state
        if state == "done" and not summary.result:
            continue
        files = {field: stamp_of(path) for field, path in named_files(summary.config, data_root).items()}
        if Run(summary.path).provenance().get("files", {}) != files:
            continue
        rank = 2 if state == "done" else 1 if state in ("queued", "running") else 0
        if summary.config not in found or rank > found[summary.config][0]:
            found[summary.config] = rank, Run(summary.path)
    return {config: run for config, (_, run) in found.items()}


@contextmanager
def submissions() -> Iterator[None]:
    """One submitter at a time on this cache folder; the kernel frees the lock of one that dies."""
    folder = cache_root() / "queue"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "submit.lock", timeout=WAIT_SECONDS):
        yield


def tickets() -> dict[str, Ticket]:
    """Run id -> ticket of every run that should be trained, first the one to be started next."""
    found = {}
    for path in _folder().glob("*.json"):
        if ticket := read_ticket(path.stem):
            found[path.stem] = ticket
    return dict(sorted(found.items(), key=lambda item: (-item[1].priority, item[1].submitted, item[0])))


def read_ticket(run_id: str) -> Ticket | None:
    """None for a run without one, also for one that was just dropped."""
    try:
        return Ticket.model_validate(read_json(_path(run_id)))
    except (UserError, ValidationError):
        return None


def write_ticket(run_id: str, ticket: Ticket) -> None:
    _folder().mkdir(parents=True, exist_ok=True)
    write_json(_path(run_id), ticket.model_dump())


def drop_ticket(run_id: str) -> None:
    _path(run_id).unlink(missing_ok=True)


def _runs_of(configs: Sequence[RunConfig], data_root: Path | None) -> list[Run]:
    known = standing_runs(data_root)
    return [known.get(config) or _fresh(known, config, data_root) for config in configs]


def _fresh(known: dict[RunConfig, Run], config: RunConfig, data_root: Path | None) -> Run:
    known[config] = stamped_run(config, data_root)
    return known[config]


def _wants_ticket(run: Run) -> bool:
    return read_ticket(run.id) is None and run.status().state not in ("running", "done")


def _issue(run: Run, priority: int) -> None:
    if _renew(run):
        write_ticket(run.id, Ticket(priority=priority, submitted=time.time(), cwd=os.getcwd()))
        queue.put(run.id, priority)


def _renew(run: Run) -> bool:
    """Let a run wait again that was stopped or failed; False where somebody has just begun to train it."""
    try:
        with run.hold():  # nobody trains it, so its status may be changed
            run.withdraw_cancel()
            if run.status().state != "queued":
                run.write_status(state="queued", message="", eta_seconds=None)
    except Taken:
        return False
    return True


def _folder() -> Path:
    return cache_root() / "queue" / "tickets"


def _path(run_id: str) -> Path:
    return _folder() / f"{run_id}.json"
