import os
import signal
import sys
import time

from kdaif.jobs import find_job, launch
from kdaif.runs import cache_root

SLEEP = [sys.executable, "-c", "import time; print('started', flush=True); time.sleep(60)"]


def wait(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stop(job):
    os.kill(job.pid, signal.SIGKILL)
    wait(lambda: not job.alive())


def test_a_job_runs_detached_and_its_truth_is_on_disk():
    job = launch("sleep", SLEEP)
    try:
        assert job.alive()
        assert os.getsid(job.pid) == job.pid  # a session of its own: Ctrl-C here does not reach it
        assert find_job("sleep") == job
        wait(lambda: job.log_tail() == "started")
    finally:
        stop(job)
    assert find_job("sleep") == job


def test_a_running_job_is_not_started_twice():
    job = launch("sleep", SLEEP)
    try:
        assert launch("sleep", SLEEP) == job
    finally:
        stop(job)
    again = launch("sleep", SLEEP)
    assert again.pid != job.pid
    stop(again)


def test_the_log_keeps_the_last_lines_and_errors():
    job = launch("fails", [sys.executable, "-c", "for i in range(50): print(i)\nraise SystemExit('no such thing')"])
    wait(lambda: not job.alive())
    assert job.log_tail(2) == "49\nno such thing"
    assert job.log_path == cache_root() / "jobs" / "fails.log"


def test_arguments_are_passed_as_they_are_without_a_shell():
    job = launch("echo", [sys.executable, "-c", "import sys; print(sys.argv[1])", "a; echo $HOME `id`"])
    wait(lambda: not job.alive())
    assert job.log_tail() == "a; echo $HOME `id`"


def test_before_the_first_start_there_is_no_job():
    assert find_job("nothing") is None
