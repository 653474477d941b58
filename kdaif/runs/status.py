"""Where a run stands, told so that neither a crash nor a reused process id can lie.

The trainer writes what it does; the reader adds whether that process still lives.
"""

import os
import socket
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from kdaif.config import UserError
from kdaif.runs.files import read_json, write_json

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
STATES: tuple[State, ...] = get_args(State)
LIVE: tuple[State, ...] = ("queued", "running")
UNFINISHED: tuple[State, ...] = (*LIVE, "interrupted")
CANCEL_FLAG = "cancel"  # a file of this name asks the trainer, wherever it is, to stop
STALE_SECONDS = 15.0  # a heartbeat on another host that is older than this means the run is gone
_START_TOLERANCE = 1.0  # seconds; the kernel counts a start time in ticks
_writing = threading.Lock()  # heartbeat thread and trainer change the same file


class Status(BaseModel):
    """`status.json`. Times are seconds since 1970."""

    model_config = ConfigDict(frozen=True)

    state: State
    host: str = ""
    pid: int | None = None
    pid_started: float | None = None
    booted: float | None = None  # when the machine started, by the clock that `pid_started` is from
    heartbeat: float = 0.0
    epoch: int = 0  # epochs recorded
    epochs: int = 0  # epochs planned
    stage: str = ""  # a word for people: teacher, student, ...
    eta_seconds: float | None = None
    message: str = ""

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def here(self) -> bool:
        """Whether its process is, or was, one of this machine's."""
        return self.host == this_host()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last sign of life of a run that is running; 0 for any other."""
        return max(0.0, time.time() - self.heartbeat) if self.state == "running" else 0.0


def read_status(path: Path) -> Status:
    """The status as it is now.

    `interrupted` where a run says running but its process is gone; `cancelled` where it was asked to stop and nobody trains it.
    """
    status = _parse(path, read_json(path))
    if status.state not in UNFINISHED or (status.state == "running" and _alive(status)):
        return status
    if path.with_name(CANCEL_FLAG).exists():
        return status.model_copy(update={"state": "cancelled", "eta_seconds": None})
    if status.state == "running":
        return status.model_copy(update={"state": "interrupted", "eta_seconds": None})
    return status


def change_status(path: Path, **changes: Any) -> None:
    """Change some fields and beat the heart; going to `running` records this process. Safe between threads.

    Only a change of state waits for the disk, so a heartbeat costs about a millisecond.
    """
    if changes.get("state") == "running":
        changes = {**this_process(), **changes}
    with _writing:
        tree = {**read_json(path), "heartbeat": time.time(), **changes}
        write_json(path, _parse(path, tree).model_dump(), sync="state" in changes)


def create_status(path: Path, epochs: int) -> None:
    write_json(path, Status(state="queued", epochs=epochs, heartbeat=time.time()).model_dump())


def this_process() -> dict[str, Any]:
    """Host, pid and start time, which together name a process for good."""
    started, booted = psutil.Process().create_time(), psutil.boot_time()
    return {"host": this_host(), "pid": os.getpid(), "pid_started": started, "booted": booted}


def _parse(path: Path, tree: dict[str, Any]) -> Status:
    try:
        return Status.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"run: {path} has a wrong {field}: got {first['input']!r}.") from None


def _alive(status: Status) -> bool:
    if not status.here:
        return time.time() - status.heartbeat <= STALE_SECONDS
    return status.pid is not None and process_alive(status.pid, status.pid_started, status.booted)


def process_alive(pid: int, started: float | None, booted: float | None = None) -> bool:
    """Whether that very process runs: same pid and same start time, and not a zombie.

    With `booted`, both start times are counted from the machine's start, as a clock that is set moves them alike.
    """
    try:
        process = psutil.Process(pid)
        moved = 0.0 if booted is None else psutil.boot_time() - booted
        same = started is None or abs(process.create_time() - moved - started) <= _START_TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@cache
def this_host() -> str:
    return socket.gethostname()
