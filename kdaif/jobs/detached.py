"""Commands that outlive the page that started them.

A job is an argument list, run detached in a session of its own, so that neither closing the page nor Ctrl-C in the
dashboard's terminal stops it. Its truth is on disk: ``jobs/<name>.json`` and ``jobs/<name>.log`` in the cache folder.
"""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from kdaif.runs import cache_root
from kdaif.runs.files import read_json, write_json
from kdaif.runs.status import process_alive

PROGRAM = Path(__file__).parents[2]  # the folder that kdaif is imported from
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
        return jobs_folder() / f"{self.name}.log"

    def alive(self) -> bool:
        for child in _children:
            child.poll()
        return process_alive(self.pid, self.pid_started)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines it printed, errors included."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def launch(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Job:
    """Start the command detached, its output in the job's log; the job that still runs under this name is left alone."""
    with _starting:
        running = find_job(name)
        if running is not None and running.alive():
            return running
        jobs_folder().mkdir(parents=True, exist_ok=True)
        child = detach(command, jobs_folder() / f"{name}.log", fresh=True, environment=environment)
        job = Job(name, list(command), child.pid, psutil.Process(child.pid).create_time(), time.time())
        write_json(jobs_folder() / f"{name}.json", asdict(job))
        return job


def find_job(name: str) -> Job | None:
    """The newest start of that name, running or not; None before the first."""
    path = jobs_folder() / f"{name}.json"
    return Job(**read_json(path)) if path.exists() else None


def detach(
    command: Sequence[str],
    log: Path,
    *,
    fresh: bool = False,
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start the command in a session and process group of its own; output goes to the end of `log` (`fresh`: a new one)."""
    with open(log, "wb" if fresh else "ab") as output:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
            env=None if environment is None else {**os.environ, **environment},
        )
    _children[:] = [other for other in _children if other.poll() is None] + [child]
    return child


def same_program() -> dict[str, str]:
    """Environment in which ``python -m kdaif`` is this program and sees this cache, whatever its folder is."""
    path = os.pathsep.join(part for part in (str(PROGRAM), os.environ.get("PYTHONPATH")) if part)
    return {"PYTHONPATH": path, "KDAIF_CACHE": str(cache_root())}


def jobs_folder() -> Path:
    return cache_root() / "jobs"
