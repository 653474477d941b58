from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from kdaif.callbacks import Callback, Moment
from kdaif.config import RunConfig, UserError
from kdaif.data import Batches, load
from kdaif.fit import fit, load_state, make_accelerator, new_model, restore, training_state
from kdaif.optim import make_optimizer
from tests.small import small


@pytest.fixture(scope="module")
def dataset():
    config = small()
    return load(config.data, config.noise, 0, None)


class Trainer:
    """A student trained with plain cross-entropy by `fit`."""

    def __init__(self, dataset, epochs: int = 4) -> None:
        self.optim = small(f"student.optim.epochs={epochs}").student.optim
        options = {"shuffle": True, "augment": "shift", "device": "cpu", "seed": 0}
        self.batches = Batches(dataset.train, dataset.mean, dataset.std, 64, **options)
        torch.manual_seed(0)
        self.model = new_model("digits-cnn-small", dataset, torch.device("cpu"), "student.model")
        steps = self.optim.epochs * len(self.batches)
        self.optimizer, self.schedule = make_optimizer(self.model, self.optim, steps, "student.optim")
        self.moment = Moment(stage="student", epochs=self.optim.epochs)

    def fit(self, until: int | None = None, callback: Callback | None = None, **hooks) -> "Trainer":
        self.moment.epochs = until or self.optim.epochs

        def loss(model, batch):
            return nn.functional.cross_entropy(model(batch.inputs), batch.labels)

        fit(
            self.model,
            self.batches,
            loss,
            self.optimizer,
            self.schedule,
            Accelerator(cpu=True),
            callback or Callback(),
            self.moment,
            seed=0,
            **hooks,
        )
        return self


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_a_restored_training_goes_on_as_it_would_have(dataset, tmp_path):
    whole, first, second = Trainer(dataset).fit(), Trainer(dataset).fit(until=2), Trainer(dataset)
    torch.save(training_state(first.model, first.optimizer, first.schedule), tmp_path / "state.pt")
    torch.rand(7)  # whatever the global random state is by then
    restore(load_state(tmp_path / "state.pt", torch.device("cpu")), second.model, second.optimizer, second.schedule)
    second.moment.epoch = 2
    second.fit()
    assert same(second.model, whole.model)
    assert second.moment.metrics == whole.moment.metrics


def test_what_an_epoch_reports(dataset):
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, moment):
            seen.append((moment.epoch, moment.step, moment.steps, dict(moment.metrics)))

    Trainer(dataset, epochs=3).fit(callback=Watch())
    assert [line[:3] for line in seen] == [(1, 4, 4), (2, 4, 4), (3, 4, 4)]
    assert [line[3]["epoch"] for line in seen] == [1, 2, 3]
    losses = [line[3]["train_loss"] for line in seen]
    assert losses == sorted(losses, reverse=True)  # it learns
    assert [line[3]["lr"] for line in seen] == sorted((line[3]["lr"] for line in seen), reverse=True)


def test_hooks_come_where_they_should(dataset):
    calls = []

    class Watch(Callback):
        def on_step_end(self, moment):
            calls.append("step end")

        def on_epoch_end(self, moment):
            calls.append("epoch end")

    Trainer(dataset, epochs=1).fit(
        callback=Watch(),
        before_epoch=lambda epoch: calls.append(f"before {epoch}"),
        after_step=lambda: calls.append("after step"),
        after_epoch=lambda moment, seconds: calls.append(f"after {moment.epoch}" if seconds > 0 else "no time"),
    )
    assert calls == ["before 1", *["after step", "step end"] * 4, "after 1", "epoch end"]


def test_a_training_that_is_over_does_nothing(dataset):
    trainer = Trainer(dataset, epochs=2).fit()
    before = training_state(trainer.model, trainer.optimizer, trainer.schedule)["schedule"].copy()
    trainer.fit(after_step=lambda: pytest.fail("no step is left"))
    assert trainer.schedule.state_dict() == before


def test_a_loss_that_is_not_finite_ends_it(dataset):
    trainer = Trainer(dataset, epochs=2)
    trainer.optimizer.param_groups[0]["lr"] = 1e30
    trainer.schedule.base_lrs = [1e30]
    with pytest.raises(UserError, match=r"^training: the loss of the student became (nan|inf) in epoch \d; lower its"):
        trainer.fit()


# --- device, precision, network --------------------------------------------------------------------------------------


def test_the_cpu_runs_in_full_precision():
    accelerator = make_accelerator(RunConfig(device="cpu"))
    assert (accelerator.device.type, accelerator.mixed_precision) == ("cpu", "no")


def test_unknown_and_missing_devices_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"^device: got 'tpu', takes auto, cpu or cuda\.$"):
        make_accelerator(RunConfig(device="tpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        UserError, match=r"^device: got 'cuda', but this machine has no usable GPU; takes auto or cpu\.$"
    ):
        make_accelerator(RunConfig(device="cuda"))


def test_a_new_network_is_decided_by_the_seed_and_ready_to_train(dataset):
    torch.manual_seed(3)
    first = new_model("digits-cnn", dataset, torch.device("cpu"), "student.model")
    torch.manual_seed(3)
    assert same(first, new_model("digits-cnn", dataset, torch.device("cpu"), "student.model"))
    assert first.training
    assert first(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    fresh = [module for module in first.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((module.running_mean == 0).all() for module in fresh)  # looking whether it fits left no trace


def test_a_network_that_images_do_not_fit_is_refused(dataset):
    small = SimpleNamespace(inputs=dataset.train.inputs[:, :, :2, :4])
    tiny = SimpleNamespace(classes=dataset.classes, train=small, vocabulary=None)
    with pytest.raises(
        UserError, match=r"^student\.model: 'vgg8' cannot take images of 4 x 2 pixels; takes larger ones\."
    ):
        new_model("vgg8", tiny, torch.device("cpu"), "student.model")


def test_a_damaged_state_is_one_sentence(tmp_path):
    path = tmp_path / "last.pt"
    for content in (b"", b"junk", b"PK\x03\x04" + b"\x00" * 30):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"^run: the checkpoint .* is damaged; delete it to start the run anew\.$"):
            load_state(path, torch.device("cpu"))
