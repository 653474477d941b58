import os
import signal
import subprocess
import sys

import pytest

from kdaif import jobs
from kdaif.config import UserError
from kdaif.jobs import stop
from kdaif.jobs.detached import detach, same_program
from kdaif.jobs.tickets import read_ticket
from kdaif.runs import cache_root, list_runs, new_run, open_run
from tests.small import small
from tests.unit.jobs.conftest import TRAINER, wait


def trained(run, deed):
    child = detach([sys.executable, str(TRAINER), str(run.path), deed], run.log_path, environment=same_program())
    wait(lambda: run.status().state == "running" and run.log_path.read_text())
    return child


def test_a_waiting_run_is_cancelled_at_once():
    run = jobs.submit(small())
    jobs.cancel(run)
    assert (run.status().state, read_ticket(run.id)) == ("cancelled", None)
    with pytest.raises(UserError, match="is cancelled, takes one that waits or runs"):
        jobs.cancel(run)


def test_a_trainer_is_asked_to_end():
    run = new_run(small())
    child = trained(run, "hang")
    jobs.cancel(run)
    assert child.wait(20) == 1
    assert run.status().state == "cancelled"


def test_a_deaf_trainer_is_killed_after_the_grace(monkeypatch):
    run = new_run(small())
    child = trained(run, "deaf")
    jobs.cancel(run)
    assert run.status().state == "running"
    monkeypatch.setattr(stop, "GRACE_SECONDS", 0.3)
    assert jobs.wait_until_stopped(run)
    assert child.wait(20) == -signal.SIGKILL
    assert run.status().state == "cancelled"


def test_a_stopped_process_is_killed_too(monkeypatch):
    run = new_run(small())
    child = trained(run, "hang")
    os.kill(child.pid, signal.SIGSTOP)
    assert run.status().state == "running"
    monkeypatch.setattr(stop, "GRACE_SECONDS", 0.3)
    jobs.cancel(run)
    assert jobs.wait_until_stopped(run)
    assert child.wait(20) == -signal.SIGKILL


def test_on_another_host_the_flag_is_all_that_is_done(monkeypatch):
    run = new_run(small())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        run.write_status(state="running", host="elsewhere", pid=bystander.pid)
        jobs.cancel(run)
        assert run.cancel_asked
        assert not jobs.wait_until_stopped(run, seconds=0.3)
        assert bystander.poll() is None


def test_the_trash_keeps_everything_and_takes_nothing_that_runs():
    run = jobs.submit(small())
    jobs.move_to_trash(run)
    assert list_runs() == []
    assert read_ticket(run.id) is None
    assert open_run(cache_root() / "trash" / run.id).config() == small()
    other = new_run(small())
    trained(other, "hang")
    with pytest.raises(UserError, match="in the hands of another process"):
        jobs.move_to_trash(other)
    jobs.cancel(other)
    assert jobs.wait_until_stopped(other)
