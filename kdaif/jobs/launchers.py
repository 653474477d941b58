"""Who trains the runs of a sweep that is waited for: the queue of this machine, or a Ray cluster. Three methods each.

A node of a cluster starts the same command line as the worker, ``kdaif train --run-dir``, on the same run folder: the cache
folder must be on a disk that all nodes see under one path, and this program on that disk or installed on each. A run keeps its
truth in its folder, so a node that dies is one more trainer that was killed: the next node goes on from the last checkpoint.
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from kdaif.config import UserError
from kdaif.jobs import stop, tickets, worker
from kdaif.jobs.detached import same_program
from kdaif.runs import Run

RETRIES = 5  # nodes that a run may lose
ENDED = ("done", "failed", "cancelled")


class Launcher(Protocol):
    """Has runs trained, each to its end."""

    def submit(self, run: Run) -> None:
        """Have a run trained that is not done; returns at once."""

    def poll(self, run: Run) -> bool:
        """Whether a submitted run is still on its way."""

    def cancel(self, run: Run) -> None:
        """Stop a run; what it recorded stays. Raises `UserError` for one that has ended."""


class LocalLauncher:
    """The queue: a ticket, and the worker of this machine."""

    def submit(self, run: Run) -> None:
        if run.status().state != "running":
            tickets.resume(run)

    def poll(self, run: Run) -> bool:
        if tickets.read_ticket(run.id) is None:
            return run.status().live
        worker.ensure_worker()  # the last one may have been killed
        return True

    def cancel(self, run: Run) -> None:
        stop.cancel(run)


class RayLauncher:
    """A task on the Ray cluster of RAY_ADDRESS, or of this machine; `gpus`: share of one for a run (None: a whole one, if any).

    Raises `UserError` where Ray is not installed or the cluster does not answer.
    """

    def __init__(self, gpus: float | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("--launcher: ray is not installed, takes it after pip install 'kdaif[ray]'.") from None
        self.ray = ray
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionError:
                address = os.environ.get("RAY_ADDRESS")
                raise UserError(f"RAY_ADDRESS: no cluster answers at {address!r}, takes host:port of one.") from None
        share = float(ray.cluster_resources().get("GPU", 0) > 0) if gpus is None else gpus
        environment = {"env_vars": same_program()}
        remote = ray.remote(num_cpus=1, num_gpus=share, max_retries=RETRIES, runtime_env=environment)
        self.train = remote(see_to)
        self.tasks: dict[str, Any] = {}

    def submit(self, run: Run) -> None:
        self.tasks[run.id] = self.train.remote(str(run.path), os.getcwd())

    def poll(self, run: Run) -> bool:
        _, waiting = self.ray.wait([self.tasks[run.id]], timeout=0)
        return bool(waiting)

    def cancel(self, run: Run) -> None:
        stop.cancel(run)  # the flag reaches its trainer on any node, also before it has begun


LAUNCHERS: dict[str, Callable[[float | None], Launcher]] = {
    "local": lambda gpus: LocalLauncher(),
    "ray": RayLauncher,
}


def see_to(path: str, cwd: str) -> None:
    """Train a run to its end, on whichever node this is; one that somebody trains already is watched.

    Given up, as by the worker, after some starts in a row without a new epoch.
    """
    run, idle, epoch = Run(Path(path)), 0, -1
    while (status := run.status()).state not in ENDED and idle < worker.ATTEMPTS:
        idle, epoch = (idle + 1, epoch) if status.epoch <= epoch else (0, status.epoch)
        child = None if status.state == "running" else worker.start_trainer(run, cwd)
        worker.follow(run, child, threading.Event())
