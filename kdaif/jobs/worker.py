"""The worker: one process a machine that trains what has a ticket, one run on each device at a time. No torch.

Killed at any moment, it loses nothing: trainers are detached and go on, and the next worker watches over them again.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice

from filelock import FileLock, Timeout

from kdaif.config import UserError
from kdaif.jobs.detached import detach, jobs_folder, same_program
from kdaif.jobs.queue import open_queue, waiting
from kdaif.jobs.stop import GRACE_SECONDS, stop_process
from kdaif.jobs.tickets import Ticket, drop_ticket, read_ticket, tickets, write_ticket
from kdaif.runs import Run, cache_root, open_run
from kdaif.runs.status import this_host

ATTEMPTS = 3  # starts in a row without a new epoch before a run is given up
IDLE_SECONDS = 30.0  # without a ticket, until a worker that was started for one goes home
LOOK_SECONDS = 0.5
START_SECONDS = 10.0  # within which a started worker holds its lock; one too many goes home at once
_started: tuple[subprocess.Popen, float] | None = None  # the newest that this process started, and when


def ensure_worker() -> None:
    """Start a detached worker unless this machine has one for this cache folder; does not wait for it."""
    global _started
    if worker_alive() or (_started and _started[0].poll() is None and time.monotonic() - _started[1] < START_SECONDS):
        return
    jobs_folder().mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "kdaif", "worker", "--idle", f"{IDLE_SECONDS:g}"]
    _started = detach(command, jobs_folder() / "worker.log", environment=same_program()), time.monotonic()


def worker_alive() -> bool:
    """Whether a worker holds this machine's lock."""
    try:
        with _lock(timeout=0):
            return False
    except Timeout:
        return True


def work(slots: int | None = None, idle: float | None = None) -> bool:
    """Train what has a ticket until nothing had one for `idle` seconds (None: for ever); False where another worker does.

    `slots`: runs at a time; None: one on each GPU, or one on the CPU.
    """
    devices = gpus() or [""]
    devices = list(islice(cycle(devices), slots)) if slots else devices
    while True:
        try:
            # whoever only asks for a living worker holds the lock for an instant
            with _lock(timeout=2):
                stopped = _Worker(devices).serve(idle)
        except Timeout:
            return False
        # a ticket written while the lock was still held has started no other worker
        if stopped or not tickets():
            return True


def gpus() -> list[str]:
    """Numbers of the GPUs that may be used, as CUDA_VISIBLE_DEVICES spells them; empty without any."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [part for part in chosen.split(",") if part.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return listed.stdout.split() if listed.returncode == 0 else []


class _Worker:
    """The consumer of the queue, and a look at tickets twice a second."""

    def __init__(self, devices: list[str]) -> None:
        self.devices = devices
        self.huey, self.put = open_queue(self.train)
        self.consumer = self.huey.create_consumer(workers=len(devices), periodic=False, backoff=1.0, max_delay=0.2)
        self.in_hand: set[str] = set()
        self.changing = threading.Lock()
        self.stop = threading.Event()

    def serve(self, idle: float | None) -> bool:
        """Returns True when it was told to stop, False when it was idle."""
        self.consumer.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        last = time.monotonic()
        while not self.stop.wait(LOOK_SECONDS):
            self.consumer.check_worker_health()
            if self._fill() or self.in_hand:
                last = time.monotonic()
            elif (idle is not None and time.monotonic() - last > idle) or not cache_root().is_dir():
                break
        self.consumer.stop()
        return self.stop.is_set()

    def _fill(self) -> int:
        """Put into the queue what has a ticket and is not there; the number of tickets."""
        wanted = tickets()
        with suppress(sqlite3.Error):  # a full disk, a file in use: the tickets are still there at the next look
            if missing := wanted.keys() - waiting(self.huey) - self.in_hand:
                for run_id, ticket in wanted.items():
                    if run_id in missing:
                        # what still runs since the last worker holds its device: it comes first
                        urgent = 10**6 if _running(run_id) else 0
                        self.put(run_id, priority=ticket.priority + urgent)
        return len(wanted)

    def train(self, run_id: str) -> None:
        """One run to its end, its cancellation, or its last attempt."""
        with self._hand(run_id) as mine:
            while mine and not self.stop.is_set() and (ticket := read_ticket(run_id)):
                try:
                    run = open_run(run_id)
                    with self._device() as device:
                        self._once(run, ticket, device)
                except (UserError, OSError) as error:  # a folder that was deleted or damaged, a full disk
                    print(f"{run_id}: {error}", file=sys.stderr, flush=True)
                    _count_attempt(run_id, ticket, ticket.epoch)
                    self.stop.wait(1.0)

    def _once(self, run: Run, ticket: Ticket, device: str) -> None:
        status = run.status()
        if status.state == "running":
            follow(run, None, self.stop)
        elif status.state in ("queued", "interrupted"):
            follow(run, start_trainer(run, ticket.cwd, device), self.stop)
        if self.stop.is_set():
            return
        after = run.status()
        if after.state == "running":  # somebody else's trainer: watch that one
            return
        if after.state in ("done", "failed", "cancelled"):
            drop_ticket(run.id)
        else:
            _count_attempt(run.id, ticket, after.epoch)

    @contextmanager
    def _hand(self, run_id: str) -> Iterator[bool]:
        """Whether this thread is the one that has the run in hand: the queue may hold it twice."""
        with self.changing:
            mine = run_id not in self.in_hand
            self.in_hand.add(run_id)
        try:
            yield mine
        finally:
            if mine:
                self.in_hand.discard(run_id)

    @contextmanager
    def _device(self) -> Iterator[str]:
        with self.changing:
            device = self.devices.pop()  # one for each thread of the consumer, so there is one
        try:
            yield device
        finally:
            self.devices.append(device)


def start_trainer(run: Run, cwd: str, device: str = "") -> subprocess.Popen:
    """The trainer of a run, detached; `device`: the GPU's number, "" for the environment's."""
    environment = same_program() | ({"CUDA_VISIBLE_DEVICES": device} if device else {})
    command = [sys.executable, "-m", "kdaif", "train", "--run-dir", str(run.path)]
    return detach(command, run.log_path, cwd=cwd, environment=environment)


def follow(run: Run, child: subprocess.Popen | None, stop: threading.Event) -> None:
    """Wait until the trainer has ended; it is stopped when the run is cancelled, and killed after the grace.

    `child`: None watches somebody else's trainer.
    """
    asked: float | None = None
    while not stop.wait(LOOK_SECONDS / 2):
        status = run.status()
        if child is None and status.state != "running":
            return
        if child is not None and child.poll() is not None:
            return
        pid = child.pid if child else status.pid if status.host == this_host() else None
        if run.cancel_asked and pid is not None:
            asked = asked or time.monotonic()
            late = time.monotonic() - asked > GRACE_SECONDS
            stop_process(pid, signal.SIGKILL if late else signal.SIGTERM)


def _count_attempt(run_id: str, ticket: Ticket, epoch: int) -> None:
    """A trainer that was killed is started again while it gets on; else it is given up after some attempts."""
    attempts = 1 if epoch > ticket.epoch else ticket.attempts + 1
    if attempts >= ATTEMPTS or read_ticket(run_id) is None:
        drop_ticket(run_id)
        _say_given_up(run_id)
    else:
        write_ticket(run_id, ticket.model_copy(update={"attempts": attempts, "epoch": max(epoch, ticket.epoch)}))


def _say_given_up(run_id: str) -> None:
    """A run that never began must not read `queued` for ever."""
    try:
        run = open_run(run_id)
        if run.status().state == "queued":
            with run.hold():
                run.write_status(state="failed", message="It could not be started; its log says why.")
    except (UserError, OSError) as error:
        print(f"{run_id}: {error}", file=sys.stderr, flush=True)


def _running(run_id: str) -> bool:
    try:
        return open_run(run_id).status().state == "running"
    except UserError:
        return False


def _lock(timeout: float) -> FileLock:
    folder = cache_root() / "queue"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"worker-{this_host()}.lock", timeout=timeout)
