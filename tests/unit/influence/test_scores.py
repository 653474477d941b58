"""Every scorer against one backward pass a sample, for every kind of layer."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kdaif.influence import SCORERS, contributions
from kdaif.influence.scores import Direction, finite_difference, gradient, layerwise, loop
from tests.unit.influence.cases import CASES, CLASSES, criterion, direction, images, make


def close(scores: Tensor, reference: Tensor, tolerance: float) -> None:
    assert ((scores - reference).abs().max() / reference.abs().max()) <= tolerance


@pytest.mark.parametrize("name", [name for name in CASES if name != "batch norm without statistics"])
@pytest.mark.parametrize(("scorer", "tolerance"), [("layerwise", 1e-10), ("jvp", 1e-10)])
def test_equals_the_loop(name: str, scorer: str, tolerance: float) -> None:
    model, batch = make(name)
    model.eval()
    directions = [direction(model), direction(model)]
    close(SCORERS[scorer](model, criterion, batch, directions), loop(model, criterion, batch, directions), tolerance)


@pytest.mark.parametrize("name", [name for name in CASES if name != "batch norm without statistics"])
def test_finite_difference_comes_close(name: str) -> None:
    model, batch = make(name)
    model.eval()
    v = [direction(model)]
    close(finite_difference(model, criterion, batch, v, step=1e-6), loop(model, criterion, batch, v), 1e-4)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 6),
    size=st.integers(5, 9),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    bias=st.booleans(),
)
def test_any_convolution(
    batch: int, size: int, groups: int, kernel: int, stride: int, dilation: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(batch)
    layer = nn.Conv2d(4, 8, kernel, stride, padding + 1, dilation, groups, bias)
    model, data = images(layer, size, batch=batch)
    v = [direction(model)]
    close(layerwise(model, criterion, data, v), loop(model, criterion, data, v), 1e-10)


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 6), places=st.integers(1, 5), width=st.integers(1, 8), out=st.integers(1, 8))
def test_any_linear_layer(batch: int, places: int, width: int, out: int) -> None:
    torch.manual_seed(batch)
    model = nn.Sequential(nn.Linear(width, out), nn.Tanh(), nn.Flatten(), nn.Linear(places * out, CLASSES)).double()
    data = torch.randn(batch, places, width, dtype=torch.float64), torch.randint(0, CLASSES, (batch,))
    v = [direction(model)]
    close(layerwise(model, criterion, data, v), loop(model, criterion, data, v), 1e-10)


def test_float32_within_1e_5() -> None:
    model, batch = make("residual in place")
    model.eval()
    v = direction(model)
    exact = loop(model, criterion, batch, [v])
    single = {name: t.float() for name, t in v.items()}
    close(layerwise(model.float(), criterion, (batch[0].float(), batch[1]), [single]).double(), exact, 1e-5)


def own_copies(model: nn.Module, batch: tuple[Tensor, Tensor], v: Direction) -> Tensor:
    """The reading of a sample's gradient in BatchNorm's train mode: the derivative of the TOTAL loss when only sample i's
    copy of the parameters moves along v. By definition, one forward and backward a sample."""
    scores = []
    for i in range(len(batch[1])):
        mask = (torch.arange(len(batch[1])) == i).double()
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        handles = [
            module.register_forward_hook(partly_moved(name, module, v, step, mask))
            for name, module in model.named_modules()
            if any(f"{name}.{local}" in v for local, _ in module.named_parameters(recurse=False))
        ]
        scores.append(torch.autograd.grad(criterion(model, batch).sum(), step)[0])
        for handle in handles:
            handle.remove()
    return torch.stack(scores)


def partly_moved(
    name: str, module: nn.Module, v: Direction, step: Tensor, mask: Tensor
) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    """A forward hook: the rows in the mask come from the layer with its own parameters moved by `step` along v."""
    plain = type(module).__new__(type(module))  # without hooks, or the call below would call this one again
    plain.__dict__ = {**module.__dict__, "_forward_hooks": {}}

    def hook(_: nn.Module, args: tuple[Tensor], y: Tensor) -> Tensor:
        moved = {n: p.detach() + step * v[f"{name}.{n}"] for n, p in module.named_parameters(recurse=False)}
        buffers = {n: b.clone() for n, b in module.named_buffers(recurse=False)}
        alone = torch.func.functional_call(plain, {**moved, **buffers}, args[0].detach())
        return y + mask.view(-1, *[1] * (y.dim() - 1)) * (alone - alone.detach())

    return hook


@pytest.mark.parametrize("name", ["batch norm", "batch norm without statistics"])
def test_batch_norm_in_train_mode(name: str) -> None:
    model, batch = make(name)
    model.train()
    v = direction(model)
    scores = layerwise(model, criterion, batch, [v])[0]
    close(scores, own_copies(model, batch, v), 1e-9)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("scorer", ["layerwise", "jvp", "loop"])
def test_scores_add_up_to_the_batch_gradient(name: str, scorer: str) -> None:
    model, batch = make(name)
    model.train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    v = direction(model)
    scores = SCORERS[scorer](model, criterion, batch, [v])[0]
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())  # scoring moves no running statistics
    total = gradient(model, criterion, [batch], list(v), reduction="sum")
    product = torch.stack([(total[n] * v[n]).sum() for n in v]).sum()
    assert abs(float(scores.sum() - product)) <= 1e-6 * float(scores.abs().sum())


def test_breakdown_adds_up_over_layers() -> None:
    model, batch = make("residual in place")
    v = [direction(model)]
    shares = contributions(model, criterion, batch, v)
    assert set(shares) == {"0", "2.inner.0", "2.inner.1", "4"}
    close(torch.stack(list(shares.values())).sum(0), layerwise(model, criterion, batch, v), 1e-10)


def test_direction_of_some_layers_scores_these_alone() -> None:
    model, batch = make("conv groups")
    head = {n: t for n, t in direction(model).items() if n.startswith("4.")}
    close(layerwise(model, criterion, batch, [head]), loop(model, criterion, batch, [head]), 1e-10)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.exp()


def test_unknown_layer_falls_back_with_a_warning_that_names_it() -> None:
    torch.manual_seed(0)
    model, batch = images(Scaled())
    v = [direction(model)]
    with pytest.warns(UserWarning, match="Scaled '2'"):
        scores = layerwise(model, criterion, batch, v)
    close(scores, loop(model, criterion, batch, v), 1e-10)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT
        return self.attention(rows, rows, rows, need_weights=False)[0]


class Borrowed(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.layer(x.flatten(2).mT).tanh(), self.layer.weight)


@pytest.mark.parametrize(
    ("layer", "word"), [(Attention, "MultiheadAttention"), (Borrowed, "outside its layer's forward")]
)
def test_parameters_used_outside_their_layer_give_no_silent_wrong_number(layer: type[nn.Module], word: str) -> None:
    torch.manual_seed(0)
    model, batch = images(layer())
    v = [direction(model)]
    with pytest.warns(UserWarning, match=word):
        scores = layerwise(model, criterion, batch, v)
    close(scores, loop(model, criterion, batch, v), 1e-9)
    close(layerwise(model, criterion, batch, v), scores, 1e-9)  # the verdict is kept: no second warning


class NoForwardRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        return g * 2


class Custom(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        return NoForwardRule.apply(super().forward(x))


def test_model_that_cannot_be_scored_says_so() -> None:
    model, batch = images(Custom())
    v = [direction(model)]
    with pytest.warns(UserWarning, match="Custom"), pytest.raises(ValueError, match="finite-difference"):
        layerwise(model, criterion, batch, v)
    close(SCORERS["finite-difference"](model, criterion, batch, v), loop(model, criterion, batch, v), 1e-3)


def test_frozen_model_is_refused() -> None:
    model, batch = make("linear")
    v = [direction(model)]
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="do not depend on any scored parameter"):
        layerwise(model, criterion, batch, v)
