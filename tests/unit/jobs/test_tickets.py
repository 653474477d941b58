import os
import subprocess
import sys
from itertools import pairwise

import pytest

from kdaif import jobs
from kdaif.config import UserError
from kdaif.jobs.detached import same_program
from kdaif.jobs.queue import open_queue, put, waiting
from kdaif.jobs.tickets import drop_ticket, read_ticket, tickets
from kdaif.runs import Run, list_runs, new_run
from tests.small import small


def finished(run: Run) -> Run:
    run.write_result({"test_accuracy": 0.5})
    run.write_status(state="done")
    return run


def test_a_submitted_run_has_a_folder_a_ticket_and_a_place_in_the_queue(started, tmp_path):
    run = jobs.submit(small(), data_root=tmp_path, priority=3)
    assert (run.status().state, run.config()) == ("queued", small())
    assert run.provenance()["data_root"] == str(tmp_path)
    assert read_ticket(run.id).priority == 3
    assert waiting(open_queue()[0]) == {run.id}
    assert started == ["worker"]


def test_the_same_config_is_one_run_whatever_its_state(started):
    run = jobs.submit(small())
    assert jobs.submit_all([small(), small()]) == [run, run]
    run.write_status(state="running")
    assert jobs.submit(small()) == run
    drop_ticket(run.id)
    finished(run)
    assert jobs.submit(small()) == run
    assert read_ticket(run.id) is None
    assert started == ["worker"]
    assert [summary.id for summary in list_runs()] == [run.id]


def test_a_file_that_was_changed_makes_another_run(tmp_path):
    source = tmp_path / "own.csv"
    source.write_text("text,label\nfine,1\n")
    config = small(f"data.source={source}")
    run = finished(jobs.submit(config))
    assert jobs.submit(config) == run
    source.write_text("text,label\nfine,1\nbad,0\n")
    other = jobs.submit(config)
    assert other != run
    assert jobs.submit(config) == other


def test_another_data_root_with_other_files_makes_another_run(tmp_path):
    config = small("data.source=own")
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        (root / "own").mkdir(parents=True)
    first = jobs.submit(config, data_root=roots[0])
    assert jobs.submit(config, data_root=roots[1]) != first
    assert jobs.submit(config, data_root=roots[0]) == first


def test_what_was_stopped_or_failed_is_queued_again():
    run = jobs.submit(small())
    jobs.cancel(run)
    assert run.status().state == "cancelled"
    assert jobs.submit(small()) == run
    assert (run.status().state, read_ticket(run.id) is not None) == ("queued", True)
    drop_ticket(run.id)
    run.write_status(state="failed", message="no memory")
    assert jobs.submit(small()) == run
    assert (run.status().state, run.status().message) == ("queued", "")


def test_a_run_of_another_program_or_without_a_result_is_not_taken():
    first = jobs.submit(small())
    first.add_provenance(git_revision="0" * 40)
    second = jobs.submit(small())
    assert second != first
    second.write_status(state="done")
    assert jobs.submit(small()) not in (first, second)


def test_a_done_run_goes_before_a_newer_one_that_was_stopped():
    done = finished(new_run(small()))
    new_run(small())
    assert jobs.standing(small(), None) == done
    assert jobs.standing(small("seed=7"), None) is None


def test_a_run_that_somebody_has_just_begun_is_taken_without_a_ticket(started):
    run = new_run(small())
    with run.hold():  # it still reads queued
        assert jobs.submit(small()) == run
        assert jobs.tickets.prepare_all([small(), small()]) == [run, run]
    assert tickets() == {}
    jobs.cancel(run)
    assert jobs.tickets.prepare_all([small()]) == [run]
    assert (run.status().state, tickets()) == ("queued", {})  # it waits for whoever asked


def test_a_claim_makes_a_run_only_where_none_stands():
    run = jobs.claim(small(), None)
    assert run is not None
    assert jobs.claim(small(), None) is None


def test_higher_priority_comes_first_and_order_is_kept_within_one():
    seeds = [jobs.submit(small(f"seed={seed}")) for seed in range(3)]
    urgent = jobs.submit(small("seed=9"), priority=1)
    assert list(tickets()) == [run.id for run in (urgent, *seeds)]
    huey, _ = open_queue()
    assert [task.args[0] for task in huey.pending()] == list(tickets())


def test_only_what_has_stopped_can_be_resumed(started):
    run = new_run(small())
    run.write_status(state="running")
    with pytest.raises(UserError, match="is running, takes a run that was stopped"):
        jobs.resume(run)
    run.write_status(state="interrupted")
    jobs.resume(run, priority=2)
    assert (run.status().state, read_ticket(run.id).priority) == ("queued", 2)
    assert started == ["worker"]


def test_a_damaged_ticket_or_a_lost_queue_does_not_stop_the_others(tmp_path):
    run = jobs.submit(small())
    (tmp_path / "cache" / "queue" / "tickets" / "x.json").write_text("{")
    assert list(tickets()) == [run.id]
    database = tmp_path / "cache" / "queue" / "queue.db"
    database.write_bytes(b"not a database, only a file of that name")
    put(run.id, 0)


def test_submitters_at_the_same_time_make_each_run_once(tmp_path):
    code = """
import sys
from kdaif.jobs import worker, submit_all
from tests.small import small
worker.ensure_worker = lambda: None
sys.stdin.readline()
print(*[run.id for run in submit_all([small(f"seed={seed}") for seed in range(12)])])
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, **same_program()}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) for _ in range(3)]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].split() for process in both]
    assert all(one == other for one, other in pairwise(said))
    assert len(set(said[0])) == 12
    assert {summary.id for summary in list_runs()} == set(said[0]) == set(tickets())
