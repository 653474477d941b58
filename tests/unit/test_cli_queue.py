"""The commands of the queue, without a worker."""

import json

import pytest

from kdaif import cli, jobs
from kdaif.jobs import worker
from kdaif.jobs.tickets import read_ticket
from kdaif.runs import list_runs, new_run, open_run
from tests.small import as_options, small


@pytest.fixture
def said(capsys, monkeypatch):
    """Runs a command that ends well: its JSON object."""
    monkeypatch.setattr(worker, "ensure_worker", lambda: None)

    def run(*arguments: str) -> dict:
        with pytest.raises(SystemExit) as end:
            cli.main([*map(str, arguments), "--json"])
        assert end.value.code == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_a_run_and_a_sweep_are_queued_and_listed(said):
    (run,) = said("train", *as_options(), "--detach", "--priority", "2")["runs"]
    assert (run["state"], read_ticket(run["run_id"]).priority) == ("queued", 2)
    grid = ["--noise", "0,0.3", "--methods", "kd,ce", "--seeds", "0,1", "--detach"]
    queued = said("sweep", *as_options(), *grid)
    assert len(queued["runs"]) == 8
    assert [sweep.id for sweep in jobs.list_sweeps()] == [queued["sweep"]]
    assert {line["state"] for line in said("runs")["runs"]} == {"queued"}
    assert len(list_runs()) == 9


def test_cancel_and_resume_through_the_queue(said):
    (run,) = said("train", *as_options(), "--detach")["runs"]
    assert said("cancel", run["run_id"])["runs"] == [{"run_id": run["run_id"], "state": "cancelled"}]
    assert said("resume", run["run_id"], "--detach")["runs"] == [{"run_id": run["run_id"], "state": "queued"}]
    assert read_ticket(run["run_id"]) is not None


def test_a_cancelled_run_is_resumed_here_too(said):
    run = new_run(small("method=ce", "student.optim.epochs=1"))
    jobs.cancel(run)
    assert said("resume", run.id)["run_id"] == run.id
    assert open_run(run.id).status().state == "done"


def test_one_run_that_has_ended_keeps_no_other_from_being_cancelled(capsys, said):
    ended = new_run(small())
    ended.write_status(state="done")
    (waiting,) = said("train", *as_options("seed=1"), "--detach")["runs"]
    with pytest.raises(SystemExit) as end:
        cli.main(["cancel", ended.id, waiting["run_id"]])
    assert end.value.code == 2
    assert f"run {ended.id} is done" in capsys.readouterr().err
    assert open_run(waiting["run_id"]).status().state == "cancelled"


def test_resuming_a_run_undoes_no_cancel_under_way(capsys):
    run = new_run(small())
    run.write_status(state="running")
    run.ask_cancel()
    with pytest.raises(SystemExit) as end:
        cli.main(["resume", run.id])
    assert end.value.code == 2
    assert f"run: {run.id} is running" in capsys.readouterr().err
    assert run.cancel_asked


def test_what_has_ended_cannot_be_cancelled(capsys):
    run = new_run(small())
    run.write_status(state="done")
    with pytest.raises(SystemExit) as end:
        cli.main(["cancel", run.id])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"kdaif: cancel: run {run.id} is done, takes one that waits or runs.\n"
