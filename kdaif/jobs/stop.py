"""Runs are stopped: cancelled, or moved to the trash when nobody trains them."""

import os
import signal
import time
from contextlib import suppress

from kdaif.config import UserError
from kdaif.jobs.tickets import drop_ticket
from kdaif.runs import LIVE, Run, cache_root

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
POLL_SECONDS = 0.1


def cancel(run: Run) -> None:
    """Ask a run to stop, and return at once; called again after the grace, its process is killed.

    The flag in the run folder reaches a trainer on any host, also one that has not begun. What is recorded stays, and `resume`
    goes on from the last checkpoint. Raises `UserError` for a run that has ended.
    """
    status = run.status()
    if status.state not in (*LIVE, "interrupted"):
        raise UserError(f"cancel: run {run.id} is {status.state}, takes one that waits or runs.")
    drop_ticket(run.id)
    asked = run.ask_cancel()
    if status.state == "running" and status.here:
        assert status.pid is not None
        stop_process(status.pid, signal.SIGKILL if time.time() - asked > GRACE_SECONDS else signal.SIGTERM)


def wait_until_stopped(run: Run, seconds: float = GRACE_SECONDS + 10) -> bool:
    """Wait for a cancelled run to stop, and kill it after the grace; False where it still runs, as on another host."""
    deadline = time.monotonic() + seconds
    while run.status().state == "running":
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
        with suppress(UserError):  # it has just stopped
            cancel(run)
    return True


def stop_process(pid: int, how: signal.Signals) -> None:
    """Signal a trainer, with its whole process group where it leads one."""
    with suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, how)
        else:
            os.kill(pid, how)


def move_to_trash(run: Run) -> None:
    """Move a run that nobody trains to ``trash/`` in the cache folder, from where it can be moved back.

    Raises `UserError` for one that is running.
    """
    with run.hold():
        drop_ticket(run.id)
        trash = cache_root() / "trash"
        trash.mkdir(parents=True, exist_ok=True)
        run.path.rename(trash / run.id)
