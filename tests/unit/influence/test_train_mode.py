"""BatchNorm and dropout in train mode, against a reference of their own; nothing of the model is moved."""

import pytest
import torch
from torch import Tensor, nn

from kdaif.influence.calls import evaluating, restored
from kdaif.influence.scores import (
    SCORERS,
    layerwise,
    loop,
)
from tests.unit.influence.cases import (
    BATCH_NORMS,
    CLASSES,
    cross_entropy,
    made,
    random_directions,
    relative_error,
)

# --- BatchNorm in train mode -----------------------------------------------------------------------------------------


def give_own_copies(model: nn.Module, copies: list[dict[str, Tensor]]) -> None:
    """In the next forward pass row i of a layer's output comes from the layer with the parameters copies[i]."""
    layers = dict(model.named_modules())

    def own_rows(name: str) -> None:
        def replace(layer: nn.Module, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
            handle.remove()  # the layer itself is called from in here
            buffers = {key: value.clone() for key, value in layer.named_buffers()}
            rows = []
            for i, copy in enumerate(copies):
                own = {key.removeprefix(f"{name}."): v for key, v in copy.items() if key.rpartition(".")[0] == name}
                rows.append(torch.func.functional_call(layer, own | buffers, args)[i])
            return torch.stack(rows)

        handle = layers[name].register_forward_hook(replace)

    for name in {key.rpartition(".")[0] for key in copies[0]}:
        own_rows(name)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", BATCH_NORMS)
def test_in_train_mode_a_sample_counts_what_passes_through_its_rows(name: str, count: int) -> None:
    """The reference gives each sample parameters of its own and differentiates the total loss in them."""
    model, batch = made(name)
    model.train()
    copies = [
        {key: p.detach().clone().requires_grad_() for key, p in model.named_parameters()} for _ in range(len(batch[1]))
    ]
    give_own_copies(model, copies)
    with restored(model):
        total = cross_entropy(model, batch).sum()
    directions = random_directions(model, count)
    gradients = [torch.autograd.grad(total, list(copy.values()), retain_graph=True) for copy in copies]
    expected = torch.stack(
        [
            torch.stack([sum((g * v[k]).sum() for k, g in zip(v, own, strict=True)) for own in gradients])
            for v in directions
        ]
    )
    scores = layerwise(model, cross_entropy, batch, directions)
    assert relative_error(scores, expected) < 1e-10
    assert (
        relative_error(scores, loop(model, cross_entropy, batch, directions)) > 1e-2
    )  # another reading of the same sum


@pytest.mark.parametrize("scorer", SCORERS)
def test_scoring_moves_neither_statistics_nor_modes_nor_random_numbers(scorer: str) -> None:
    model, batch = made("in-place residual")
    model.head = nn.Sequential(nn.Dropout(0.5), model.head)
    model.train()
    model.bn1.eval()  # a user's frozen statistics
    directions = [{name: torch.ones_like(p) for name, p in model.named_parameters()}]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    SCORERS[scorer](model, cross_entropy, batch, directions)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in (model, model.bn1, model.bn2)] == [True, False, True]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    model(batch[0])
    assert not torch.equal(model.bn2.running_mean, before["bn2.running_mean"])  # which training does move


@pytest.mark.parametrize("scorer", SCORERS)
def test_dropout_drops_the_same_in_every_pass(scorer: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, CLASSES)).double()
    batch = torch.randn(6, 5, dtype=torch.float64), torch.randint(0, CLASSES, (6,))
    directions = random_directions(model, 2)
    torch.manual_seed(3)
    scores = SCORERS[scorer](model, cross_entropy, batch, directions)
    torch.manual_seed(3)
    assert relative_error(scores, loop(model, cross_entropy, batch, directions)) < 1e-3


def test_evaluating_puts_every_module_back_in_its_own_mode() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    model.train()
    model[1][0].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, True, False, True]
