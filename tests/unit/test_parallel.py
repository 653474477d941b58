"""Two gloo processes against one: real `torchrun`, real run folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdaif import parallel
from kdaif.config import UserError
from kdaif.runs import Run, new_run, open_run
from kdaif.train import train_new
from tests.small import as_options, small

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m", "kdaif"]
# 200 samples in batches of 33: shares of 17 and 16, and of 1 and 1 in the last
SETS = ("student.optim.batch_size=33", "student.optim.epochs=5", "influence.mapping=sigmoid", "influence.warmup=0")


def torchrun(*words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KDAIF_CACHE": str(cache), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(
        [*TORCHRUN, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def furthest(one: Run, other: Run, column: str) -> float:
    """The largest difference of a column in any epoch."""
    pairs = [(one.epoch(number, [column]), other.epoch(number, [column])) for number in one.epochs()]
    return max(float(np.nanmax(np.abs(a[column] - b[column]))) for a, b in pairs)


def differences(one: Run, other: Run) -> list[float]:
    """The largest of the student's parameters and statistics, and of the samples' weights."""
    ours, theirs = load_file(one.student_path), load_file(other.student_path)
    assert ours.keys() == theirs.keys()
    return [max(float((ours[name] - theirs[name]).abs().max()) for name in ours), furthest(one, other, "weight")]


def test_two_processes_train_the_student_and_the_weights_of_one(tmp_path):
    single = open_run(train_new(small("method=kd-aif", *SETS))["run_id"])
    assert single.epoch()["weight"].std() > 0.1  # weights that differ
    said = torchrun("train", *as_options("method=kd-aif", *SETS), "--json", cache=tmp_path / "two")
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout.splitlines()[-1])  # one process speaks
    double = open_run(Path(result["run_dir"]))
    assert [path.name for path in (tmp_path / "two" / "runs").iterdir()] == [double.id]  # and one writes
    assert double.status().state == "done"
    assert max(differences(single, double)) < 1e-5
    assert furthest(single, double, "influence") < 1e-3  # standard errors
    for column in ("visits", "student_prediction"):
        assert furthest(single, double, column) == 0
    assert double.metrics().columns.tolist() == single.metrics().columns.tolist()


def test_a_queued_run_goes_on_in_two_processes_where_one_was_stopped(tmp_path):
    from kdaif.train import train
    from tests.unit.test_train import Stop

    sets = ("method=small-loss", *SETS)
    undisturbed = open_run(train_new(small(*sets))["run_id"])
    run = new_run(small(*sets))
    with pytest.raises(SystemExit):
        train(run, callbacks=[Stop("student", 4, 2, SystemExit)])
    said = torchrun("train", "--run-dir", str(run.path), cache=tmp_path / "cache")
    assert said.returncode == 0, said.stderr
    assert run.status().state == "done"
    assert max(differences(undisturbed, run)) < 1e-5


@pytest.mark.parametrize(
    ("sets", "spreads", "smallest", "said"),
    [
        (["method=l2rw"], False, 8, "method: 'l2rw' trains in one process, takes another method under torchrun."),
        (["influence.scope=all"], True, 8, "influence.scope: got 'all', takes last under torchrun"),
        (["distillation.hidden=1"], True, 8, "distillation.hidden: got 1, takes 0 under torchrun"),
        (
            ["student.optim.batch_size=33"],
            True,
            1,
            "student.optim.batch_size: got 33, which leaves a batch of 1 samples",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused_in_a_sentence(sets, spreads, smallest, said, monkeypatch):
    parallel.check(small(*sets), spreads, smallest)  # one process can do it all
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError) as error:
        parallel.check(small(*sets), spreads, smallest)
    assert str(error.value).startswith(said)
    parallel.check(small("influence.scope=all", "influence.update=periodic"), True, 2)


def test_a_follower_writes_nothing(tmp_path, monkeypatch):
    run = new_run(small())
    monkeypatch.setenv("RANK", "1")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    follower = parallel.follow(run)
    with run.hold(), follower.hold():
        follower.write_status(state="running")
        follower.add_provenance(device="cpu")
        follower.write_result({})
    (run.path / ".lock").unlink(missing_ok=True)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert follower.config() == run.config()
