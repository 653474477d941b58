from pathlib import Path

import pytest
import torch
from torch import nn

from kdaif import logits as module
from kdaif.data import Batch, Batches, load
from kdaif.logits import TeacherLogits, teacher_logits
from kdaif.models import build
from kdaif.runs import cache_root
from kdaif.train import train_new
from tests.small import small
from tests.unit.test_train import outcome, trained


class Counted(nn.Module):
    """A teacher that counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.passes = build("digits-cnn", 10, 1, "teacher.model"), 0

    def forward(self, inputs):
        self.passes += 1
        return self.model(inputs)


@pytest.fixture
def teacher() -> Counted:
    torch.manual_seed(0)
    return Counted().eval()


def batches(augment: str) -> Batches:
    config = small(f"data.augment={augment}")
    dataset = load(config.data, config.noise, config.seed, None)
    options = {"shuffle": True, "augment": augment, "device": "cpu", "seed": 0}
    return Batches(dataset.train, dataset.mean, dataset.std, 64, **options)


def epochs(logits: TeacherLogits, stream: Batches, count: int) -> list[tuple[Batch, torch.Tensor]]:
    said = []
    for epoch in range(1, count + 1):
        stream.set_epoch(epoch)
        said += [(batch, logits(batch, epoch)) for batch in stream]
    return said


@pytest.mark.parametrize("augment", ["none", "shift"])
def test_a_second_run_reads_what_the_first_one_heard_to_the_last_bit(augment: str, teacher: Counted, tmp_path: Path):
    stream = batches(augment)
    first = epochs(TeacherLogits(teacher, tmp_path, 200, once=augment == "none"), stream, 3)
    passes = teacher.passes
    second = epochs(TeacherLogits(teacher, tmp_path, 200, once=augment == "none"), stream, 3)
    assert passes == len(stream) * (1 if augment == "none" else 3)
    assert teacher.passes == passes
    for (_, live), (_, read) in zip(first, second, strict=True):
        assert torch.equal(live, read)


def test_what_is_read_is_what_the_teacher_says(teacher: Counted, tmp_path: Path):
    stream = batches("shift")
    epochs(TeacherLogits(teacher, tmp_path, 200, once=False), stream, 2)
    for batch, logits in epochs(TeacherLogits(teacher, tmp_path, 200, once=False), stream, 2):
        with torch.no_grad():
            torch.testing.assert_close(logits, teacher(batch.inputs))


def test_nothing_is_kept_without_a_folder(teacher: Counted):
    stream, logits = batches("shift"), TeacherLogits(teacher, None, 200, once=False)
    epochs(logits, stream, 2)
    epochs(logits, stream, 2)
    assert teacher.passes == 4 * len(stream)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY half", b"no array"])
def test_a_damaged_file_is_made_again(damage: bytes, teacher: Counted, tmp_path: Path):
    stream = batches("none")
    epochs(TeacherLogits(teacher, tmp_path, 200, once=True), stream, 1)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    epochs(TeacherLogits(teacher, tmp_path, 200, once=True), stream, 1)
    assert file.read_bytes() == whole


def test_an_epoch_that_was_not_finished_leaves_no_file(teacher: Counted, tmp_path: Path):
    stream, logits = batches("shift"), TeacherLogits(teacher, tmp_path, 200, once=False)
    logits(next(iter(stream)), 1)
    assert not list(tmp_path.iterdir())


def test_runs_share_a_stream_where_everything_that_decides_it_is_the_same():
    for sets in ([], ["method=oracle"], ["influence.mapping=hard"]):
        train_new(small("method=kd", "data.augment=shift", *sets))
    assert len(list((cache_root() / "logits").iterdir())) == 1
    for other in ("seed=1", "data.augment=none", "noise.rate=0.1", "student.optim.batch_size=50"):
        train_new(small("method=kd", "data.augment=shift", other))
    assert len(list((cache_root() / "logits").iterdir())) == 5


def test_a_run_is_the_same_with_and_without_kept_logits(monkeypatch: pytest.MonkeyPatch):
    sets = ("method=kd-aif", "data.augment=shift")
    first, again = trained(*sets), trained(*sets)
    monkeypatch.setattr(module, "LIMIT", 0)
    alone = trained(*sets)
    assert outcome(first) == outcome(again) == outcome(alone)


def test_a_stream_above_the_limit_is_not_kept(monkeypatch: pytest.MonkeyPatch, teacher: Counted, tmp_path: Path):
    config = small("data.augment=shift")
    dataset = load(config.data, config.noise, config.seed, None)
    path = tmp_path / "teacher"
    path.write_bytes(b"weights")
    assert teacher_logits(teacher, path, config, dataset, "cpu").folder is not None
    monkeypatch.setattr(module, "LIMIT", 200 * 10 * 4 * 3 - 1)  # samples, classes, bytes, epochs
    assert teacher_logits(teacher, path, config, dataset, "cpu").folder is None
