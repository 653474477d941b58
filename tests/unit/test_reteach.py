"""A teacher trained again without what it finds harmful: when, on what, and what it gains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from kdaif.callbacks import Callback
from kdaif.config import RunConfig
from kdaif.data import Batches, load
from kdaif.fit import new_model
from kdaif.reteach import lesson
from kdaif.runs import Run, open_run
from kdaif.teacher import find_teacher
from kdaif.train import train, train_new
from kdaif.weighting import Setting
from tests.small import small

CPU = torch.device("cpu")
# enough for a teacher that tells wrong labels from right ones
TAUGHT = ("data.train_size=800", "noise.rate=0.4", "teacher.optim.epochs=12", "student.optim.epochs=2")


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(_own_cache: None, module_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests share their teachers."""
    monkeypatch.setenv("KDAIF_CACHE", str(module_cache))


class Stages(Callback):
    def __init__(self, stop_in: str = "") -> None:
        self.seen: list[str] = []
        self.stop_in = stop_in

    def on_stage_begin(self, moment):
        self.seen.append(moment.stage)
        if moment.stage == self.stop_in:
            raise KeyboardInterrupt


def trained(*sets: str) -> tuple[Run, list[str]]:
    stages = Stages()
    return open_run(train_new(small(*TAUGHT, *sets), callbacks=[stages])["run_id"]), stages.seen


def setting(config: RunConfig) -> Setting:
    """What a run of it hands to its method, the teacher being in the cache."""
    dataset = load(config.data, config.noise, config.seed, None)
    teacher = find_teacher(config, dataset, None, CPU)
    assert teacher.ready

    def ordered(split):
        return Batches(split, dataset.mean, dataset.std, 100, shuffle=False, augment="none", device=CPU, seed=0)

    student = new_model(config.student.model, dataset, CPU, "student.model")
    return Setting(config, dataset, student, teacher.model, ordered, CPU)


def test_the_second_teacher_is_better_and_teaches():
    frozen, stages = trained("influence.teacher=frozen")
    assert stages == ["teacher", "student"]
    again, stages = trained()
    assert stages == ["teacher again", "student"]
    first, second = (run.provenance() for run in (frozen, again))
    assert second["teacher"] != first["teacher"]
    assert second["teacher_test_accuracy"] > first["teacher_test_accuracy"]
    assert "teacher_again_seconds" in second
    assert "teacher_seconds" not in second
    assert (again.epoch()["teacher_prediction"] != frozen.epoch()["teacher_prediction"]).any()
    # vanilla KD and the oracle keep the first one
    for method in ("kd", "oracle"):
        assert trained(f"method={method}")[0].provenance()["teacher"] == first["teacher"]
    assert trained("distillation.alpha=0.3")[1] == ["student"]  # kept, and found again


def test_the_lesson_is_the_weights_and_the_teachers_own_label_in_their_place():
    trained("influence.teacher=frozen")
    at_hand = setting(small(*TAUGHT))
    learnt = lesson(at_hand)
    assert learnt is not None
    assert learnt.weight.min() >= 0
    assert learnt.weight.max() == 1
    flipped = at_hand.dataset.train.flipped
    assert learnt.weight[flipped].mean() < 0.5 < learnt.weight[~flipped].mean()
    sure, says = (
        trained("influence.teacher=frozen")[0].epoch()[["teacher_confidence", "teacher_prediction"]].to_numpy().T
    )
    assert_array_equal(learnt.says.numpy(), says)
    np.testing.assert_allclose(learnt.trust.numpy(), (1 - learnt.weight.numpy()) * sure, atol=1e-5)
    # an agreed label keeps its weight
    assert bool((learnt.weight[learnt.says == at_hand.dataset.train.labels] == 1).all())


@pytest.mark.parametrize(
    "sets", [("noise.kind=none", "noise.rate=0"), ("influence.source=student",), ("teacher.labels=clean",)]
)
def test_the_first_teacher_stays_where_nothing_is_harmful_or_known_to_be(sets):
    run, stages = trained(*sets)
    assert "teacher again" not in stages
    assert "teacher_again_seconds" not in run.provenance()


def test_a_loaded_teacher_is_not_trained_again(tmp_path):
    path = trained("influence.teacher=frozen")[0].provenance()["teacher"]
    assert trained(f"teacher.checkpoint={path}")[1] == ["student"]


def test_a_run_stopped_while_the_teacher_learns_again_ends_as_it_would_have():
    whole, _ = trained("seed=1")
    for weights in Path(whole.provenance()["teacher"]).parent.glob("teacher.safetensors"):
        weights.unlink()
    with pytest.raises(KeyboardInterrupt):
        train_new(small(*TAUGHT, "seed=1", "name=stopped"), callbacks=[Stages("teacher again")])
    (stopped,) = [open_run(p.name) for p in whole.path.parent.iterdir() if open_run(p.name).config().name == "stopped"]
    assert stopped.status().state == "cancelled"
    stages = Stages()
    train(stopped, callbacks=[stages])
    assert stages.seen == ["teacher again", "student"]
    columns = ["influence", "weight", "student_prediction", "teacher_loss"]
    for name in columns:
        assert_array_equal(stopped.epoch()[name], whole.epoch()[name])
