"""A guest in somebody else's loop: it disturbs nothing, and says in one sentence what it cannot take."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence import InfluenceWeights
from kdaif.influence.scores import loop as loop_scores
from tests.unit.influence.cases import CLASSES, Lambda, averaged, cross_entropy, pooled, relative_error
from tests.unit.influence.training import SIZE, batches, conv_net, data, one_step, optimizer_of

# --- a guest in the loop ---------------------------------------------------------------------------------------------


def with_noise(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        pooled(4),
    )


@pytest.mark.parametrize(
    ("scope", "update"), [("last", "lagged"), ("all", "lagged"), ("all", "online"), ("last", "periodic")]
)
def test_neutral_weights_train_exactly_as_no_weights(scope: str, update: str) -> None:
    (inputs, labels), (x, y) = data()
    inputs, validation = inputs.float(), (x.float(), y)
    finals = []
    for guest in (False, True):
        model = with_noise()
        model[5].eval()  # a user's frozen statistics
        optimizer = optimizer_of(model)
        weights = (
            InfluenceWeights(model, validation, SIZE, scope=scope, update=update, mapping="neutral", refresh_steps=2)
            if guest
            else None
        )
        torch.manual_seed(5)
        for _ in range(2):
            for index in batches(torch.randperm(SIZE)):
                losses = F.cross_entropy(model(inputs[index]), labels[index], reduction="none")
                loss = losses.mean() if weights is None else weights(losses, index)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if weights is not None:
                    weights.step()
            if weights is not None and update == "periodic":
                weights.rescore([(torch.arange(SIZE), (inputs, labels))])
        finals.append(model)
    assert finals[1].training
    assert not finals[1][5].training
    for (name, plain), (_, weighted) in zip(
        finals[0].state_dict().items(), finals[1].state_dict().items(), strict=True
    ):
        assert torch.equal(plain, weighted), name


def test_a_resumed_run_is_the_same_run() -> None:
    train, validation = data()

    def epoch(weights: InfluenceWeights, optimizer: torch.optim.Optimizer, number: int) -> None:
        order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(number))
        for index in batches(order):
            optimizer.zero_grad()
            one_step(weights, train, index)
            optimizer.step()
            weights.step()

    for scope in ("last", "all"):
        settings = {"scope": scope, "validation_batch": 12, "refresh_steps": 2}
        first = InfluenceWeights(conv_net(), validation, SIZE, **settings)
        optimizer = optimizer_of(first.model)
        for number in range(2):
            epoch(first, optimizer, number)
        model = copy.deepcopy(first.model)
        for module in model.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        second = InfluenceWeights(model, validation, SIZE, **settings)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        resumed = optimizer_of(second.model)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for number in range(2, 5):
            epoch(first, optimizer, number)
            epoch(second, resumed, number)
        for name, tensor in first.table.state_dict().items():
            assert torch.equal(tensor.nan_to_num(7), second.table.state_dict()[name].nan_to_num(7)), name
        assert first.table.visits.min() == (5 if scope == "last" else 2)


def test_closing_takes_all_hooks_off() -> None:
    _, validation = data()
    model = conv_net()
    for scope in ("last", "all"):
        weights = InfluenceWeights(model, validation, SIZE, scope=scope)
        assert any(module._forward_hooks for module in model.modules())
        weights.close()
        hooks = [(m._forward_hooks, m._forward_pre_hooks, m._backward_hooks) for m in model.modules()]
        assert not any(any(kinds) for kinds in hooks)


def test_two_guests_do_not_disturb_each_other() -> None:
    train, validation = data()
    model = conv_net()
    alone = InfluenceWeights(copy.deepcopy(model), validation, SIZE, scope="all")
    one_step(alone, train, torch.arange(8))
    alone.step()
    both = [InfluenceWeights(model, validation, SIZE, scope=scope) for scope in ("all", "last")]
    losses = F.cross_entropy(model(train[0][:8]), train[1][:8], reduction="none")
    loss = both[0](losses, torch.arange(8))
    both[1](losses, torch.arange(8))
    loss.backward()
    for weights in both:
        weights.step()
    torch.testing.assert_close(both[0].table.t, alone.table.t)
    assert both[1].table.visits[:8].tolist() == [1] * 8


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"update": "never"}, "update: got 'never', takes one of online, lagged, periodic, two_phase"),
        ({"mapping": "cubic"}, "mapping: got 'cubic', takes one of neutral, sigmoid, hard, relu, posterior"),
        ({"source": "god"}, "source: got 'god', takes one of teacher, student, both"),
        ({"scope": "first"}, "scope: got 'first', takes last or all"),
        (
            {"preconditioner": "newton"},
            "preconditioner: got 'newton', takes one of identity, adam, whiten, kfac, ekfac, exact",
        ),
        ({"size": 0}, "size: got 0, takes the number of training samples"),
        ({"prior": torch.zeros(3)}, "prior, disputed and groups must have shape (24,), got (3,), (24,), (24,)"),
        (
            {"validation": (torch.zeros(1, 3, 8, 8), torch.zeros(1).long())},
            "validation: influence needs at least 2 validation samples, got 1",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings_are_refused_with_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    _, validation = data()
    given: dict[str, Any] = {"validation": validation, "size": SIZE} | settings
    with pytest.raises(ValueError, match=r".") as caught:
        InfluenceWeights(conv_net(), **given)
    assert str(caught.value) == sentence


def test_losses_and_index_must_fit() -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE)
    losses = cross_entropy(weights.model, train)
    with pytest.raises(
        ValueError, match=r"^losses and index must have one entry a sample, got shapes \(24,\) and \(8,\)$"
    ):
        # past the shapes in the signature, which only tests check
        InfluenceWeights.__call__.__wrapped__(weights, losses, torch.arange(8))  # type: ignore[attr-defined]


@pytest.mark.parametrize("scope", ["last", "all"])
def test_losses_from_elsewhere_are_refused(scope: str) -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, scope=scope)
    other = conv_net(seed=3)
    with pytest.raises(
        ValueError, match=r"^no forward pass of the model was seen before the losses; call the model itself"
    ):
        weights(cross_entropy(other, train), torch.arange(SIZE))
    parts = weights.model[4](weights.model[:4](train[0]))  # its parts, not itself
    with pytest.raises(ValueError, match=r"^no forward pass of the model was seen"):
        weights(F.cross_entropy(parts, train[1], reduction="none"), torch.arange(SIZE))


def test_two_passes_in_one_loss_need_all_layers() -> None:
    train, validation = data()
    both = {
        scope: InfluenceWeights(conv_net(), validation, SIZE, scope=scope, preconditioner="identity")
        for scope in ("last", "all")
    }
    for scope, weights in both.items():
        losses = cross_entropy(weights.model, train) + cross_entropy(weights.model, (train[0].flip(3), train[1]))
        if scope == "last":
            with pytest.raises(
                ValueError, match=r"^the last layer must run once for a loss, got 2 runs; use scope='all'$"
            ):
                weights(losses, torch.arange(SIZE))
        else:
            weights(losses, torch.arange(SIZE)).backward()
            weights.step()
            explicit = sum(
                loop_scores(weights.model, cross_entropy, (x, train[1]), weights.probe.directions).mean(0)
                for x in (train[0], train[0].flip(3))
            )
            assert relative_error((weights.table.raw / weights.table.trust()).double(), explicit) < 1e-5


def test_a_model_that_cannot_be_scored_in_the_step_is_told_at_once() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    class Bypassed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(4, 4), averaged(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.linear(x, self.fc.weight))

    validation = torch.randn(16, 5, 4), torch.randint(0, CLASSES, (16,))
    wanted = r"^influence cannot be taken in the step itself \(.*(Scale '0'|do not add up).*\); use update='periodic'$"
    for model in (nn.Sequential(Scale(), averaged(4)), Bypassed()):
        with pytest.raises(ValueError, match=wanted):
            InfluenceWeights(model, validation, 16, scope="all")
        InfluenceWeights(model, validation, 16)  # its last layer is like any other
        weights = InfluenceWeights(model, validation, 16, scope="all", update="periodic", preconditioner="identity")
        with pytest.warns(UserWarning, match=r"scoring by forward mode instead"):
            weights.rescore([(torch.arange(16), validation)])
        assert weights.table.visits.tolist() == [1] * 16


def test_batches_of_any_kind_serve_as_validation() -> None:
    """A criterion of the user's own takes what the loader gives; every batch is a fold."""
    torch.manual_seed(0)
    model = nn.Sequential(Lambda(lambda x: x.mean(1)), nn.Linear(4, CLASSES))
    loader = [{"x": torch.randn(6, 5, 4), "y": torch.randint(0, CLASSES, (6,))} for _ in range(3)]

    def criterion(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    for scope in ("last", "all"):
        weights = InfluenceWeights(model, loader, 6, scope=scope, criterion=criterion)
        weights(criterion(model, loader[0]), torch.arange(6)).backward()
        weights.step()
        assert weights.table.visits.tolist() == [1] * 6
        weights.close()
