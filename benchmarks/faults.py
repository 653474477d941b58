"""What the queue promises, under fire: each round kills, stops or starves something at a random moment, while readers look on.

A round is one of: SIGKILL of the trainer (also inside a file write), of the worker, of both, of the app; SIGSTOP and SIGCONT of
the trainer; a clock that jumps; a full disk (where a small tmpfs can be mounted). Runs follow each other until the rounds are
over. Each must end with the very same files as an undisturbed one, no recorded epoch may vanish, no reader may fail, no status
may say `running` of a run that nobody trains, nor the contrary.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from benchmarks._common import emit, options
from kdaif import jobs
from kdaif.config import RunConfig, UserError, load_config
from kdaif.jobs.worker import worker_alive
from kdaif.runs import Run, cache_root, open_run
from kdaif.runs.status import this_host

SETTINGS = (
    "device=cpu", "data.train_size=250", "data.test_size=50", "data.validation=0.2", "noise.kind=symmetric",
    "noise.rate=0.3", "teacher.optim.epochs=3", "checkpoint_every=2", "method=kd-aif",
)  # fmt: skip
DISK = 8  # MiB of the tmpfs
PATIENCE = 900.0  # seconds for one run
IN_WRITE = 10.0  # seconds to wait for a file under its temporary name
ROOT = Path(__file__).parents[1]
APP = """
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app/views/experiments.py", default_timeout=60)
while True:
    page.run()
    print(".", end="", flush=True)
"""
BARS = {
    "different_results": ("<=", 0.0),
    "vanished_epochs": ("<=", 0.0),
    "reader_errors": ("<=", 0.0),
    "longest_wrong_status_seconds": ("<=", 15.0),
}


def measure(rounds: int, epochs: int, seed: int = 0, disk: bool = True) -> dict[str, float | None]:
    """Figures of `rounds` faults in the cache folder of KDAIF_CACHE."""
    config = load_config("digits", [*SETTINGS, f"student.optim.epochs={epochs}"])
    expected = _undisturbed(config)
    rng = random.Random(seed)
    faults = [kill_trainer, kill_in_write, kill_worker, kill_both, kill_app, stop_trainer, jump_clock]
    faults += [fill_disk] if disk else []
    done = dict.fromkeys((fault.__name__ for fault in faults), 0)
    total = {"runs": 0, "different_results": 0, "polls": 0, "reader_errors": 0, "vanished_epochs": 0}
    longest = 0.0
    while sum(done.values()) < rounds:
        run = jobs.submit(config)
        with _watch(run) as watch:
            deadline = time.monotonic() + PATIENCE
            while run.status().state != "done":
                if sum(done.values()) < rounds:
                    _until_begun(run)
                    time.sleep(rng.uniform(0, 2.0))
                    if run.status().state != "done":
                        fault = rng.choice(faults)
                        done[fault.__name__] += fault(run, rng)
                _recover(run)
                time.sleep(0.2)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{run.id} is {run.status()} after {PATIENCE:g} s; its log is {run.log_path}")
        total["runs"] += 1
        total["different_results"] += _files(run) != expected
        total["polls"] += watch.polls
        total["reader_errors"] += len(watch.errors)
        total["vanished_epochs"] += watch.vanished
        longest = max(longest, watch.longest_wrong)
        for error in watch.errors[:3]:
            print(f"a reader failed: {error}", file=sys.stderr)
        _erase(run)
        print(f"{sum(done.values())} of {rounds} rounds", file=sys.stderr, flush=True)
    return {"rounds": sum(done.values()), **total, "longest_wrong_status_seconds": longest, **done}


# faults: each says whether it came about


def kill_trainer(run: Run, rng: random.Random) -> bool:
    trainers = _trainers(run)
    for process in trainers:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(trainers)


def kill_in_write(run: Run, rng: random.Random) -> bool:
    """Stopped while a file is under its temporary name, looked at once more, and killed."""
    deadline = time.monotonic() + IN_WRITE
    while (trainers := _trainers(run)) and time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            for _ in range(200):
                if _half_written(run):
                    trainers[0].send_signal(signal.SIGSTOP)
                    if _half_written(run):
                        trainers[0].kill()
                        return True
                    trainers[0].send_signal(signal.SIGCONT)
    return False


def kill_worker(run: Run, rng: random.Random) -> bool:
    workers = _workers()
    for process in workers:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(workers)


def kill_both(run: Run, rng: random.Random) -> bool:
    return kill_worker(run, rng) & kill_trainer(run, rng)


def kill_app(run: Run, rng: random.Random) -> bool:
    """The server's own work on the page Experiments, which starts workers and looks after runs."""
    server = subprocess.Popen([sys.executable, "-c", APP], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    drawn = server.stdout.read(1)  # the page stands for the first time
    time.sleep(rng.uniform(0, 1.0))
    server.kill()
    server.wait()
    server.stdout.close()
    return bool(drawn)


def stop_trainer(run: Run, rng: random.Random) -> bool:
    trainers = _trainers(run)
    for process in trainers:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.5, 2.0))
            process.send_signal(signal.SIGCONT)
    return bool(trainers)


def jump_clock(run: Run, rng: random.Random) -> bool:
    """As readers see it: the time, and with it when the machine and its processes started, is another for a while."""
    by = rng.choice((-86_400.0, -60.0, 60.0, 86_400.0))
    now, booted, started = time.time, psutil.boot_time, psutil.Process.create_time
    with (
        patch.object(time, "time", lambda: now() + by),
        patch.object(psutil, "boot_time", lambda: booted() + by),
        patch.object(psutil.Process, "create_time", lambda process: started(process) + by),
    ):
        time.sleep(rng.uniform(1.0, 3.0))
    return True


def fill_disk(run: Run, rng: random.Random) -> bool:
    """Not one byte left for a few seconds: longer than an epoch takes."""
    filler = cache_root() / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    time.sleep(rng.uniform(1.0, 3.0))
    filler.unlink()
    return True


# what a user or an open page would do


def _recover(run: Run) -> None:
    if run.status().state in ("failed", "interrupted") and jobs.tickets.read_ticket(run.id) is None:
        with suppress(UserError, OSError):
            jobs.resume(run)
    if not worker_alive():
        jobs.ensure_worker()


# what is looked at


class _Watch:
    """A reader that opens everything, again and again."""

    def __init__(self, run: Run) -> None:
        self.run, self.stop = run, threading.Event()
        self.polls, self.vanished, self.longest_wrong = 0, 0, 0.0
        self.errors: list[str] = []
        self._seen: set[int] = set()
        self._wrong_since: float | None = None

    def look(self) -> None:
        while not self.stop.wait(0.02):
            self.polls += 1
            try:
                self._look()
            except Exception as error:  # whatever a reader may meet is counted
                self.errors.append(repr(error))

    def _look(self) -> None:
        run = open_run(self.run.path)
        status, epochs = run.status(), set(run.epochs())
        self.vanished += len(self._seen - epochs)
        self._seen |= epochs
        run.metrics()
        run.result()
        if epochs:
            run.samples()
            run.epoch()
        tells = status.state in ("running", "interrupted")  # of a process that trains or does not
        wrong = tells and (status.state == "running") != _is_trainer(status.pid, run)
        now = time.monotonic()
        self._wrong_since = (self._wrong_since or now) if wrong else None
        if self._wrong_since:
            self.longest_wrong = max(self.longest_wrong, now - self._wrong_since)


@contextmanager
def _watch(run: Run) -> Iterator[_Watch]:
    watch = _Watch(run)
    thread = threading.Thread(target=watch.look)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop.set()
        thread.join()


def _undisturbed(config: RunConfig) -> dict[str, bytes]:
    """The files of the same run in peace, in a process of its own, as the queue has it."""
    run = jobs.submit(config)
    _until(lambda: run.status().state == "done", PATIENCE)
    files = _files(run)
    _erase(run)
    return files


def _erase(run: Run) -> None:
    """The disk is small."""
    jobs.move_to_trash(run)
    shutil.rmtree(cache_root() / "trash")


def _files(run: Run) -> dict[str, bytes]:
    """What must not differ: figures, samples and every epoch."""
    names = ["metrics.parquet", "samples.parquet", *(f"epochs/epoch={number:05d}.parquet" for number in run.epochs())]
    return {name: (run.path / name).read_bytes() for name in names}


def _is_trainer(pid: int | None, run: Run) -> bool:
    """Not by what kdaif says of the process, but by its command line."""
    try:
        return pid is not None and str(run.path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _trainers(run: Run) -> list[psutil.Process]:
    return [process for process in _processes("train") if _is_trainer(process.pid, run)]


def _workers() -> list[psutil.Process]:
    """Of this cache folder."""
    found = []
    for process in _processes("worker"):
        with suppress(psutil.Error):
            if process.environ().get("KDAIF_CACHE") == str(cache_root()):
                found.append(process)
    return found


def _half_written(run: Run) -> bool:
    folders = (run.path, run.path / "epochs", run.checkpoint_dir)
    return any(name.endswith(".tmp") for folder in folders for name in os.listdir(folder))


def _processes(command: str) -> list[psutil.Process]:
    """Processes of ``python -m kdaif COMMAND``."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = process.cmdline()
            if "kdaif" in line and command in line and line.index("kdaif") + 1 == line.index(command):
                found.append(process)
    return found


def _until_begun(run: Run) -> None:
    """An open page looks every second, and so starts a worker again that died between two looks."""

    def begun() -> bool:
        _recover(run)
        return run.status().state in ("running", "done")

    _until(begun, PATIENCE)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs of a few MiB at `folder`; False where it may not be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "kdaif-faults", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=50, help="faults")
    parser.add_argument("--epochs", type=int, default=60, help="of each run")
    arguments = parser.parse_args()
    rounds: Any = min(arguments.rounds, 3) if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory() as scratch, _small_disk(Path(scratch)) as small:
        os.environ["KDAIF_CACHE"] = scratch
        figures = measure(rounds, arguments.epochs, disk=small)
        for process in _workers():
            process.terminate()
            process.wait(20)
    config = {"rounds": rounds, "epochs": arguments.epochs, "host": this_host(), "full_disk": small}
    emit(figures, config, arguments.json, BARS)


if __name__ == "__main__":
    main()
