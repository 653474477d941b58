"""Commands that outlive the page that started them.

A job is an argument list, run detached in a session of its own, so that neither closing the page nor Ctrl-C in the
dashboard's terminal stops it. Its truth is on disk: ``jobs/<name>.json`` and ``jobs/<name>.log`` in the cache folder.
"""

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from kdaif.runs import cache_root
from kdaif.runs.files import read_json, write_json
from kdaif.runs.status import process_alive

_starting = threading.Lock()
_children: list[subprocess.Popen] = []  # polled, so that an ended child leaves no zombie


@dataclass(frozen=True)
class Job:
    """The newest start of a named command; `started` in seconds since 1970."""

    name: str
    command: list[str]
    pid: int
    pid_started: float
    started: float

    @property
    def log_path(self) -> Path:
        return _folder() / f"{self.name}.log"

    def alive(self) -> bool:
        for child in _children:
            child.poll()
        return process_alive(self.pid, self.pid_started)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines it printed, errors included."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def launch(name: str, command: Sequence[str]) -> Job:
    """Start the command detached, its output in the job's log; the job that still runs under this name is left alone."""
    with _starting:
        running = find_job(name)
        if running is not None and running.alive():
            return running
        _folder().mkdir(parents=True, exist_ok=True)
        with open(_folder() / f"{name}.log", "wb") as log:
            child = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        _children.append(child)
        job = Job(name, list(command), child.pid, psutil.Process(child.pid).create_time(), time.time())
        write_json(_folder() / f"{name}.json", asdict(job))
        return job


def find_job(name: str) -> Job | None:
    """The newest start of that name, running or not; None before the first."""
    path = _folder() / f"{name}.json"
    return Job(**read_json(path)) if path.exists() else None


def _folder() -> Path:
    return cache_root() / "jobs"
