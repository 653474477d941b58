"""Launchers: the queue, with the trainer that learns nothing; and a real Ray cluster of two nodes, of which one is killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from kdaif import jobs, sweep
from kdaif.config import UserError
from kdaif.jobs import launchers, worker
from kdaif.jobs.launchers import LAUNCHERS, LocalLauncher, see_to
from kdaif.jobs.tickets import read_ticket, tickets
from kdaif.jobs.worker import _Worker
from kdaif.runs import list_runs, new_run
from tests.small import as_options, small
from tests.unit.jobs.conftest import wait

ROOT = Path(__file__).parents[3]
GRID = {"methods": ["kd", "oracle"], "noise": [0.3], "seeds": [0, 1]}


class Inline(LocalLauncher):
    """The queue, with a worker that trains when it is looked for."""

    def poll(self, run):
        _Worker([""]).train(run.id)
        return super().poll(run)


def test_a_sweep_is_trained_by_the_queue(behave, monkeypatch):
    behave("finish")
    monkeypatch.setattr(sweep, "summarise", lambda rows: [])
    monkeypatch.setattr(sweep, "paired", lambda rows: [])
    first = sweep.sweep(small(), **GRID, launcher=Inline())
    assert {row["run_id"] for row in first.rows} == {summary.id for summary in list_runs()}
    assert (len(first.rows), tickets()) == (4, {})
    behave("refuse")  # done runs are not repeated
    assert sweep.sweep(small(), **GRID, launcher=Inline()).rows == first.rows


def test_a_sweep_with_a_run_that_fails_says_so_at_its_end(behave):
    behave("refuse")
    with pytest.raises(UserError, match=r"sweep: 4 of 4 runs have no result, .* is failed \(It could not be started"):
        sweep.sweep(small(), **GRID, launcher=Inline())


def test_a_sweep_that_is_stopped_cancels_what_is_on_its_way(monkeypatch):
    launcher = LocalLauncher()

    def interrupt(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "poll", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(small(), **GRID, launcher=launcher)
    assert {summary.status.state for summary in list_runs()} == {"cancelled"}
    assert tickets() == {}


def test_the_queue_tells_what_is_on_its_way(started):
    run, launcher = new_run(small()), LocalLauncher()
    launcher.submit(run)
    assert read_ticket(run.id) is not None
    assert launcher.poll(run)
    assert len(started) == 2  # a worker is looked after at every poll
    launcher.cancel(run)
    assert not launcher.poll(run)


@pytest.mark.parametrize(("deeds", "state"), [(["die", "die", "finish"], "done"), (["die"], "interrupted")])
def test_a_node_starts_a_trainer_again_and_gives_up_where_none_gets_on(deeds, state, behave):
    behave(*deeds)
    run = new_run(small())
    see_to(str(run.path), os.getcwd())
    assert run.status().state == state


def test_a_node_watches_a_run_that_is_trained_elsewhere_and_leaves_a_cancelled_one(behave, in_background, monkeypatch):
    behave("hang")
    run = jobs.submit(small())
    in_background(_Worker([""]).train, run.id)
    wait(lambda: run.status().state == "running")
    monkeypatch.setattr(launchers.worker, "start_trainer", lambda *_: pytest.fail("a second trainer"))
    watching = in_background(see_to, str(run.path), os.getcwd())
    time.sleep(1)
    assert watching.is_alive()
    jobs.cancel(run)
    watching.join(30)
    assert run.status().state == "cancelled"
    see_to(str(run.path), os.getcwd())


def test_ray_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="--launcher: ray is not installed, takes it after pip install 'kdaif"):
        LAUNCHERS["ray"](None)


# --- a cluster -------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes() -> Iterator[subprocess.Popen]:
    if find_spec("ray") is None:
        pytest.fail("ray is missing") if os.environ.get("CI") == "true" else pytest.skip("ray is not installed")
    script = Path(__file__).with_name("ray_nodes.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen([sys.executable, str(script)], **pipes)
    yield process
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def test_a_cluster_of_two_nodes_finishes_a_sweep_though_one_is_killed(nodes):
    address = nodes.stdout.readline().strip()
    words = ["sweep", *as_options("student.optim.epochs=80"), "--methods", "ce,kd,oracle", "--noise", "0.3"]
    command = [sys.executable, "-m", "kdaif", *words, "--launcher", "ray", "--json"]
    environment = {**os.environ, "RAY_ADDRESS": address, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as sweeping:

        def training() -> list[str]:
            states = [summary.status for summary in list_runs()]
            return [s for s in states if s.state == "running" and 2 <= s.epoch < 70]

        wait(lambda: len(training()) == 2 or sweeping.poll() is not None, 300)
        nodes.stdin.write("kill\n")
        nodes.stdin.flush()
        said, errors = sweeping.communicate(timeout=400)
    assert sweeping.returncode == 0, errors
    rows = json.loads(said.splitlines()[-1])["rows"]
    assert {row["run_id"] for row in rows} == {summary.id for summary in list_runs()}
    assert [summary.status.state for summary in list_runs()] == ["done"] * 3
    assert all(summary.status.epoch == 80 for summary in list_runs())
    starts = [Path(summary.path / "train.log").read_text().count("student: epoch 80 of 80") for summary in list_runs()]
    assert starts == [1] * 3  # each came to its end once


def test_the_launcher_is_named_and_not_detached(capfd):
    from kdaif.cli import main

    for words, said in (
        (["--launcher", "slurm"], "--launcher: got 'slurm', takes one of local, ray."),
        (["--launcher", "ray", "--detach"], "--detach: got it with --launcher ray, which is waited for"),
    ):
        with pytest.raises(SystemExit):
            main(["sweep", "digits", *words])
        assert said in capfd.readouterr().err
    assert worker.worker_alive() is False
