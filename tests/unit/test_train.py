import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal

from kdaif.callbacks import Callback
from kdaif.config import UserError
from kdaif.data import load
from kdaif.runs import Run, list_runs, new_run, open_run
from kdaif.train import train, train_new
from tests.small import small

ROOT = Path(__file__).parents[2]

BASELINES = ["small-loss", "aum", "confident-learning", "l2rw", "meta-weight-net"]
RESULT_KEYS = {
    "run_id",
    "run_dir",
    "method",
    "seed",
    "noise",
    "test_accuracy",
    "validation_accuracy",
    "worst_class_accuracy",
    "best_epoch",
    "best_test_accuracy",
    "teacher_test_accuracy",
    "flipped_auroc",
    "downweighted",
    "seconds",
}


def trained(*sets: str) -> Run:
    return open_run(train_new(small(*sets))["run_id"])


def outcome(run: Run) -> dict[str, bytes]:
    """The files that seed and config alone decide."""
    files = [run.path / "metrics.parquet", run.path / "samples.parquet", run.student_path]
    files += sorted((run.path / "epochs").iterdir())
    return {file.name: file.read_bytes() for file in files}


class Stop(Callback):
    """Kills a run in the middle of an epoch of a stage."""

    def __init__(self, stage: str, epoch: int, step: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.place, self.error = (stage, epoch, step), error

    def on_step_end(self, moment):
        if (moment.stage, moment.epoch, moment.step) == self.place:
            raise self.error("killed")


def settings(method: str) -> list[str]:
    """A method with its mechanism, as in `kd-aif periodic all class:3`."""
    name, *influence = method.split()
    fields = [f"influence.{field}={value}" for field, value in zip(("update", "scope", "target"), influence)]
    few = ["data.train_size=120", "influence.validation=given"] if "all" in influence else []
    return [f"method={name}", "student.optim.epochs=4", "influence.mapping=sigmoid", *fields, *few]


# --- the same run twice, and a run in two parts ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ce", "kd", "kd-aif lagged", "kd-aif online", "oracle", *BASELINES])
def test_same_seed_and_config_give_the_same_bytes(method, tmp_path, monkeypatch):
    first = outcome(trained(*settings(method)))
    assert outcome(trained(*settings(method))) == first  # the teacher came from the cache
    monkeypatch.setenv("KDAIF_CACHE", str(tmp_path / "other"))
    assert outcome(trained(*settings(method))) == first  # and was trained anew


def test_another_seed_gives_another_run():
    assert outcome(trained("method=ce", "seed=1")) != outcome(trained("method=ce"))


METHODS = ["ce", "kd", "oracle", "kd-aif lagged", "kd-aif lagged all", "kd-aif online", "kd-aif periodic"]
METHODS += ["kd-aif lagged last class:3", "kd-aif lagged all worst-class"]


@pytest.mark.parametrize("method", [*METHODS, "kd-aif two_phase", *BASELINES])
def test_a_run_killed_and_resumed_ends_as_if_undisturbed(method):
    undisturbed = trained(*settings(method))
    run = new_run(small(*settings(method)))
    error = SystemExit if method == "kd" else KeyboardInterrupt
    with pytest.raises(error):
        train(run, callbacks=[Stop("student", 4, 2, error)])  # epoch 3 is recorded, the last checkpoint is of epoch 2
    assert run.epochs() == [1, 2, 3]
    # a signal that nobody asked for, as at a shutdown, only interrupts
    assert run.status().state == ("interrupted" if error is SystemExit else "cancelled")
    assert run.result() is None
    train(run)
    assert outcome(run) == outcome(undisturbed)
    assert run.status().state == "done"


@pytest.mark.parametrize("kind", ["instance", "input"])
def test_other_noise_is_reproducible_resumes_and_is_written_down(kind):
    sets = [*settings("kd-aif lagged"), f"noise.kind={kind}"]
    undisturbed = trained(*sets)
    assert outcome(trained(*sets)) == outcome(undisturbed)
    run = new_run(small(*sets))
    with pytest.raises(KeyboardInterrupt):
        train(run, callbacks=[Stop("student", 4, 2)])
    train(run)
    assert outcome(run) == outcome(undisturbed)
    samples = run.samples()
    assert samples["corrupted"].notna().all() == (kind == "input")
    assert samples["corrupted"].sum() == (round(0.3 * len(samples)) if kind == "input" else 0)
    assert samples["flipped"].any() == (kind == "instance")


@pytest.mark.parametrize("place", [("teacher", 2, 1), ("scoring run 1", 2, 1)])
def test_a_run_killed_before_its_first_checkpoint_starts_anew(place):
    sets = settings("kd-aif two_phase")
    run = new_run(small(*sets))
    with pytest.raises(KeyboardInterrupt):
        train(run, callbacks=[Stop(*place)])
    train(run)
    assert outcome(run) == outcome(trained(*sets))


DIES = """
import os, signal, sys
from kdaif.callbacks import Callback
from kdaif.runs import open_run
from kdaif.train import train

class Kill(Callback):
    def on_step_end(self, moment):
        if (moment.stage, moment.epoch, moment.step) == ("student", 4, 2):
            os.kill(os.getpid(), signal.SIGKILL)

train(open_run(sys.argv[1]), callbacks=[Kill()])
"""


def test_a_run_whose_process_dies_reads_interrupted_and_resumes():
    run = new_run(small(*settings("kd-aif lagged")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    died = subprocess.run(
        [sys.executable, "-c", DIES, str(run.path)], env=environment, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert run.status().state == "interrupted"
    assert run.epochs() == [1, 2, 3]
    train(run)
    assert outcome(run) == outcome(trained(*settings("kd-aif lagged")))


def test_resuming_a_finished_or_running_run_is_refused():
    run = trained("method=kd")
    before = outcome(run)
    with pytest.raises(UserError, match=f"run: {run.id} is done, takes a run that waits or was stopped"):
        train(run)
    run.write_status(state="running")
    with pytest.raises(UserError, match="is running"):
        train(run)
    assert run.status().state == "running"
    assert outcome(run) == before


def test_a_damaged_checkpoint_is_one_sentence():
    run = new_run(small("method=kd"))
    (run.checkpoint_dir / "last.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(
        UserError, match=r"run: the checkpoint .*last\.pt is damaged; delete it to start the run anew\."
    ):
        train(run)
    assert run.status().state == "failed"
    assert "is damaged" in run.status().message


def test_a_resumed_run_knows_its_data_root(tmp_path):
    run = new_run(small("method=ce"))
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path, [Stop("student", 2, 1)])
    train(run)
    assert run.provenance()["data_root"] == str(tmp_path)


# --- what a run leaves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["a row less", "rows in another order", "another label"])
def test_a_run_is_not_resumed_on_other_samples_than_it_began_with(change, tmp_path):
    source, config = tmp_path / "own.csv", small()
    lines = [f"sentence number {row} is {'fine' if row % 2 else 'bad'},{row % 2}" for row in range(40)]
    source.write_text("\n".join(["text,label", *lines]))
    networks = ["teacher.model=bert-micro", "student.model=distilbert-micro", "data.augment=none", "method=ce"]
    config = small(
        f"data.source={source}", "data.train_size=null", "data.test_size=null", "checkpoint_every=1", *networks
    )
    with pytest.raises(KeyboardInterrupt):
        train_new(config, callbacks=[Stop("student", 2, 1)])
    run = open_run(list_runs()[0].id)
    before = (run.path / "samples.parquet").read_bytes()
    changed = {
        "a row less": lines[:-1],
        "rows in another order": lines[::-1],
        "another label": [*lines[:-1], lines[-1][:-1] + "0"],
    }
    source.write_text("\n".join(["text,label", *changed[change]]))
    with pytest.raises(UserError, match=f"the data of {run.id} have changed since it began"):
        train(run)
    assert (run.path / "samples.parquet").read_bytes() == before
    assert run.status().state == "failed"
    source.write_text("\n".join(["text,label", *lines]))
    assert train(run)["run_id"] == run.id


def test_result_and_provenance():
    returned = train_new(small("method=kd-aif"))
    run = open_run(returned["run_id"])
    assert run.result() == returned
    assert returned.keys() == RESULT_KEYS
    metrics = run.metrics()
    assert metrics["epoch"].tolist() == run.epochs() == [1, 2, 3]
    assert returned["test_accuracy"] == metrics["test_accuracy"].iloc[-1]
    assert returned["best_test_accuracy"] == metrics.loc[metrics["validation_accuracy"].argmax(), "test_accuracy"]
    assert np.isclose(np.mean(metrics["class_accuracy"].iloc[-1]), returned["test_accuracy"], atol=0.05)
    assert (metrics["overhead"].between(0, 1) & (metrics["seconds"] > 0)).all()
    assert returned["seconds"] > metrics["seconds"].sum()
    assert run.provenance()["sizes"] == {"train": 200, "validation": 50, "test": 50}
    assert run.provenance()["teacher_test_accuracy"] == returned["teacher_test_accuracy"]
    assert run.inputs().shape == (200, 8, 8, 1)
    assert (run.checkpoint_dir / "best.safetensors").exists()


def test_samples_are_those_trained_on():
    run = trained("method=ce")
    config, samples = run.config(), run.samples()
    dataset = load(config.data, config.noise, config.seed, None)
    assert samples["id"].tolist() == dataset.train.ids.tolist()
    assert_array_equal(samples["label"], dataset.train.labels)
    assert samples["flipped"].sum() == round(0.3 * 200)
    assert not set(samples["id"]) & ({*dataset.validation.ids} | {*dataset.test.ids})
    assert_array_equal(run.inputs(), dataset.train.images())


def test_ce_needs_no_teacher():
    run = trained("method=ce")
    last = run.epoch()
    assert run.result()["teacher_test_accuracy"] is None
    assert last["teacher_loss"].isna().all()
    assert (last["teacher_prediction"] == -1).all()
    assert (last["weight"] == 1).all()


def test_epoch_columns_agree_with_each_other():
    last, label = (run := trained("method=kd")).epoch(), run.samples()["label"]
    right = last["student_prediction"] == label
    assert_array_equal(right, last["margin"] > 0)
    assert np.allclose(np.exp(-last["loss"][right]), last["student_confidence"][right], atol=1e-5)
    assert run.metrics()["train_accuracy"].iloc[-1] == right.mean()


def test_oracle_drops_exactly_the_flipped():
    run = trained("method=oracle")
    for epoch in run.epochs():
        assert_array_equal(run.epoch(epoch)["weight"] == 0, run.samples()["flipped"])
        assert set(run.epoch(epoch)["weight"]) == {0, 1}


def test_unsure_figures_are_null_not_nan():
    assert train_new(small("method=kd-aif", "noise.rate=0"))["flipped_auroc"] is None


# --- the status, and reading while it trains -------------------------------------------------------------------------


class Reader(Callback):
    """What a page sees of a run while it trains."""

    def __init__(self, run: Run) -> None:
        self.run, self.seen = run, []

    def look(self, moment):
        (summary,) = list_runs()
        assert not summary.error
        assert summary.status.pid == os.getpid()
        self.seen.append((moment.stage, summary.status.state, summary.status.epoch, len(self.run.metrics())))

    on_stage_begin = on_epoch_end = on_stage_end = look

    def on_step_end(self, moment):
        if moment.stage == "student" and moment.epoch > 1:
            assert self.run.epochs()[-1] == moment.epoch - 1
            assert len(self.run.epoch()) == len(self.run.samples()) == 200
            assert self.run.result() is None


def test_a_run_is_read_while_it_trains():
    run = new_run(small("teacher.optim.epochs=1", "student.optim.epochs=2", "influence.teacher=frozen"))
    assert run.status().state == "queued"
    reader = Reader(run)
    train(run, callbacks=[reader])
    assert reader.seen == [
        ("teacher", "running", 0, 0),
        ("teacher", "running", 0, 0),
        ("teacher", "running", 0, 0),
        ("student", "running", 0, 0),
        ("student", "running", 1, 1),
        ("student", "running", 2, 2),
        ("student", "running", 2, 2),
    ]
    status = run.status()
    assert (status.state, status.stage, status.epoch, status.epochs) == ("done", "student", 2, 2)
    assert (status.eta_seconds, status.message) == (0, "")


@pytest.mark.parametrize(
    "method", ["kd", "kd-aif lagged last", "kd-aif lagged all", "kd-aif online", "kd-aif periodic"]
)
def test_a_loss_that_is_not_finite_fails_in_one_sentence(method):
    run = new_run(small(*settings(method), "student.optim.lr=1e30"))
    with pytest.raises(UserError) as error:
        train(run)
    assert str(error.value).startswith("training: the loss of the student became ")
    assert str(error.value).endswith("; lower its optim.lr.")
    status = run.status()
    assert (status.state, status.message, status.eta_seconds) == ("failed", str(error.value), None)


def test_a_teacher_whose_loss_is_not_finite_is_not_kept(tmp_path):
    with pytest.raises(UserError, match="the loss of the teacher became"):
        train_new(small("teacher.optim.lr=1e30"))
    assert not list(tmp_path.rglob("teacher.safetensors"))


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ("method=foo", "method: got 'foo', takes one of aum, ce, confident-learning, kd, kd-aif, l2rw, "),
        ("teacher.optim.schedule=foo", "teacher.optim.schedule: got 'foo', takes one of constant, cosine, step."),
        ("influence.mapping=foo", "influence.mapping: got 'foo'"),
        ("data.train_size=9", "data.train_size: got 9, takes 10"),
        ("teacher.checkpoint=foo.th", "teacher.checkpoint: got 'foo.th', found no such file"),
        ("teacher.labels=clean noise.kind=none noise.rate=0", "teacher.labels: got 'clean', but the clean labels"),
    ],
)
def test_what_cannot_be_run_leaves_no_run_and_no_teacher(sets, said, tmp_path):
    with pytest.raises(UserError) as error:
        train_new(small(*sets.split()))
    assert str(error.value).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_queued_run_that_cannot_be_run_is_failed_with_the_sentence():
    run = new_run(small("student.model=foo"))
    with pytest.raises(UserError) as error:
        train(run)
    assert (run.status().state, run.status().message) == ("failed", str(error.value))


# --- influence never meets the test split ----------------------------------------------------------------------------


def test_test_labels_change_no_weight(monkeypatch):
    import kdaif.train

    plain = trained("method=kd-aif")

    def with_shuffled_test(*arguments):
        dataset = load(*arguments)
        dataset.test.labels.copy_(dataset.test.labels.roll(1))
        return dataset

    monkeypatch.setattr(kdaif.train, "load", with_shuffled_test)
    shuffled = trained("method=kd-aif")
    assert shuffled.metrics()["test_loss"].iloc[-1] != plain.metrics()["test_loss"].iloc[-1]
    for epoch in plain.epochs():
        pd.testing.assert_frame_equal(plain.epoch(epoch), shuffled.epoch(epoch))


def test_checkpoints_load_without_running_code(tmp_path: Path):
    run = trained("method=kd-aif", "influence.update=online")
    state = torch.load(run.checkpoint_dir / "last.pt", weights_only=True)
    assert state["epoch"] == 3
