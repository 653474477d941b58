"""Runs that outlive the page, the shell and the worker that started them. No torch.

What *should* run is a ticket (a small file); what *does* run is told by the run folder. The queue between them is huey on
SQLite: it only says what is next, and is filled again from the tickets when it, or a worker, was lost.

    submit  -> run folder + ticket -> worker -> detached `python -m kdaif train --run-dir ...` -> status, results
    cancel  -> flag in the run folder, SIGTERM, and SIGKILL after a grace

docs/jobs.md has the picture of who writes what, and the tests of each promise.
"""

from kdaif.jobs.detached import Job, find_job, launch
from kdaif.jobs.grid import SweepRecord, list_sweeps, submit_sweep
from kdaif.jobs.stop import cancel, move_to_trash, wait_until_stopped
from kdaif.jobs.tickets import claim, resume, standing, submit, submit_all
from kdaif.jobs.worker import ensure_worker, work

__all__ = [
    "Job",
    "SweepRecord",
    "cancel",
    "claim",
    "ensure_worker",
    "find_job",
    "launch",
    "list_sweeps",
    "move_to_trash",
    "resume",
    "standing",
    "submit",
    "submit_all",
    "submit_sweep",
    "wait_until_stopped",
    "work",
]
