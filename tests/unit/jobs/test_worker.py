import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from kdaif import jobs
from kdaif.jobs import stop, worker
from kdaif.jobs.detached import same_program
from kdaif.jobs.tickets import read_ticket, tickets
from kdaif.jobs.worker import _Worker, gpus, work
from tests.small import small
from tests.unit.jobs.conftest import wait

WORKER = [sys.executable, "-m", "kdaif", "worker"]


def test_a_run_is_trained_and_its_ticket_goes(behave):
    behave("finish")
    run = jobs.submit(small())
    _Worker([""]).train(run.id)
    assert (run.status().state, read_ticket(run.id)) == ("done", None)


def test_a_trainer_that_was_killed_is_started_again_until_it_is_done(behave):
    behave("die", "die", "finish")
    run = jobs.submit(small())
    _Worker([""]).train(run.id)
    assert run.status().state == "done"


def test_without_progress_a_run_is_given_up_and_with_progress_it_is_not(behave):
    behave("die")
    run = jobs.submit(small())
    _Worker([""]).train(run.id)
    assert (run.status().state, read_ticket(run.id)) == ("interrupted", None)
    behave("advance", "advance", "advance", "advance", "finish")
    jobs.resume(run)
    _Worker([""]).train(run.id)
    assert (run.status().state, run.status().epoch) == ("done", 4)


def test_a_run_that_cannot_begin_says_so(behave):
    behave("refuse")
    run = jobs.submit(small())
    _Worker([""]).train(run.id)
    assert (run.status().state, run.status().message) == ("failed", "It could not be started; its log says why.")
    assert run.log_path.read_text().splitlines() == ["there is no such thing"] * worker.ATTEMPTS


def test_a_run_that_was_deleted_or_cancelled_is_not_started(behave):
    behave("finish")
    run, other = jobs.submit(small()), jobs.submit(small("seed=1"))
    jobs.cancel(run)
    other.path.rename(other.path.with_name(".gone"))
    for each in (run, other):
        _Worker([""]).train(each.id)
    assert tickets() == {}
    assert not run.log_path.exists()


def test_cancelling_stops_the_trainer_also_one_that_has_not_begun(behave, in_background, monkeypatch):
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(stop, "GRACE_SECONDS", 60)
    behave("deaf")
    run = jobs.submit(small())
    thread = in_background(_Worker([""]).train, run.id)
    wait(run.log_path.exists)
    jobs.cancel(run)
    thread.join(30)
    assert not thread.is_alive()
    assert run.status().state == "cancelled"


def test_a_trainer_of_a_worker_that_died_is_watched_and_not_started_twice(behave, in_background):
    behave("hang")
    run = jobs.submit(small())
    first, second = _Worker(["0"]), _Worker(["0"])
    in_background(first.train, run.id)
    wait(lambda: run.status().state == "running" and run.log_path.read_text())
    assert run.log_path.read_text() == "0\n"  # the device is the trainer's
    first.stop.set()  # as good as dead
    pid = run.status().pid
    thread = in_background(second.train, run.id)
    time.sleep(1)
    assert run.status().pid == pid
    behave("finish")
    os.kill(pid, signal.SIGKILL)
    thread.join(30)
    assert run.status().state == "done"


def test_a_run_twice_in_the_queue_is_in_one_hand(behave, in_background):
    behave("hang")
    run = jobs.submit(small())
    one = _Worker(["", ""])
    in_background(one.train, run.id)
    wait(lambda: run.status().state == "running")
    one.train(run.id)  # returns at once
    jobs.cancel(run)


@pytest.mark.parametrize(("chosen", "expected"), [("0,2", ["0", "2"]), ("", []), (None, [])])
def test_the_devices_are_those_that_may_be_used(chosen, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpus() == expected


def test_the_gpus_are_counted_without_torch(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus() == ["0", "1"]


def test_one_worker_a_machine_trains_what_was_queued_and_ends_at_a_signal():
    environment = {**os.environ, **same_program()}
    run = jobs.submit(small())
    first = subprocess.Popen(WORKER, env=environment)
    try:
        wait(jobs.worker.worker_alive, 60)
        second = subprocess.run(WORKER, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert second.stdout == "another worker serves this machine\n"
        wait(lambda: run.status().state == "done" and not tickets(), 300)
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0
    finally:
        first.kill()
        first.wait()
    assert run.log_path.read_text()


def test_a_worker_without_work_goes_home():
    command = [*WORKER, "--idle", "0.1"]
    subprocess.run(command, env={**os.environ, **same_program()}, timeout=60, check=True)
    assert not jobs.worker.worker_alive()


def test_more_slots_than_gpus_share_them_evenly(monkeypatch):
    seen = []
    monkeypatch.setattr(worker, "gpus", lambda: ["0", "1"])
    monkeypatch.setattr(
        worker, "_Worker", lambda devices: seen.append(devices) or SimpleNamespace(serve=lambda idle: True)
    )
    assert work(slots=3, idle=0)
    assert work(idle=0)
    assert seen == [["0", "1", "0"], ["0", "1"]]
