import json
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from kdaif.config import UserError
from kdaif.runs.status import STALE_SECONDS


def edit(run, **changes):
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_new_run_is_queued_and_running_records_the_process(run):
    assert run.status().state == "queued"
    assert run.status().epochs == 30
    run.write_status(state="running", stage="teacher")
    status = run.status()
    assert (status.state, status.stage, status.pid) == ("running", "teacher", os.getpid())
    assert status.pid_started == psutil.Process().create_time()
    assert time.time() - status.heartbeat < 5


def test_a_dead_process_reads_interrupted(run):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run.write_status(state="running", pid=process.pid, pid_started=psutil.Process(process.pid).create_time())
    assert run.status().state == "running"
    process.kill()
    process.communicate()
    assert run.status().state == "interrupted"
    run.write_status(state="done")
    assert run.status().state == "done"


def test_a_reused_pid_reads_interrupted(run):
    run.write_status(state="running", eta_seconds=10.0)
    edit(run, pid_started=psutil.Process().create_time() - 60)
    assert run.status().state == "interrupted"
    assert run.status().eta_seconds is None


def test_on_another_host_the_heartbeat_decides(run):
    run.write_status(state="running")
    edit(run, host="elsewhere", pid=1, heartbeat=time.time() - STALE_SECONDS + 5)
    assert run.status().state == "running"
    edit(run, heartbeat=time.time() - STALE_SECONDS - 5)
    assert run.status().state == "interrupted"


def test_changes_keep_the_other_fields_and_wrong_ones_are_refused(run):
    run.write_status(state="running", epoch=3, stage="student")
    run.write_status(eta_seconds=12.5)
    assert (run.status().epoch, run.status().stage, run.status().eta_seconds) == (3, "student", 12.5)
    with pytest.raises(UserError, match="has a wrong state: got 'walking'"):
        run.write_status(state="walking")
    assert run.status().state == "running"


def test_heartbeat_thread_and_trainer_do_not_undo_each_other(run):
    run.write_status(state="running")

    def beat():
        for _ in range(200):
            run.write_status()

    thread = threading.Thread(target=beat)
    thread.start()
    for epoch in range(200):
        run.write_status(epoch=epoch)
    thread.join()
    assert run.status().epoch == 199


def test_a_clock_that_is_set_changes_no_verdict(run, monkeypatch):
    run.write_status(state="running")
    booted = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 3600)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600)
    assert run.status().state == "running"


def test_who_was_asked_to_stop_and_is_not_trained_reads_cancelled(run):
    run.ask_cancel()
    assert run.status().state == "cancelled"
    run.write_status(state="running")
    assert run.status().state == "running"
    edit(run, pid_started=psutil.Process().create_time() - 60)
    assert run.status().state == "cancelled"
    run.withdraw_cancel()
    assert run.status().state == "interrupted"
    run.ask_cancel()
    run.write_status(state="done")
    assert run.status().state == "done"


def test_a_run_that_says_nothing_is_silent(run):
    assert run.status().silent_seconds == 0
    run.write_status(state="running")
    edit(run, heartbeat=time.time() - 60)
    assert 59 < run.status().silent_seconds < 90
