"""Directions against matrices built whole, and influence against leaving samples out for real."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from benchmarks.exactness import LeaveOneOut, correlation, leave_one_out
from kdaif.influence.direction import (
    PRECONDITIONERS,
    damped_inverse,
    kronecker_factors,
    scope_names,
    validation_direction,
)
from kdaif.influence.scores import gradient
from tests.unit.influence.cases import (
    Lambda,
    averaged,
    cross_entropy,
    images,
    made,
    pooled,
    random_directions,
    sequences,
)

DAMPING = 0.3


# --- the sign and the size, by leaving out ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def left_out() -> LeaveOneOut:
    return leave_one_out(150)


def test_influence_foretells_the_loss_without_the_sample(left_out: LeaveOneOut) -> None:
    assert correlation(left_out.influence, left_out.change) >= 0.99
    # removal takes a step of 1 / n away
    slope = (left_out.change * left_out.influence).sum() / left_out.influence.square().sum() * len(left_out.change)
    assert slope == pytest.approx(1, abs=0.1)


def test_positive_influence_is_help(left_out: LeaveOneOut) -> None:
    clear = left_out.change.abs() > left_out.change.abs().median()
    assert torch.equal(left_out.influence[clear] > 0, left_out.change[clear] > 0)
    assert left_out.influence[left_out.flipped].mean() < 0 < left_out.influence[~left_out.flipped].mean()


# --- each preconditioner as a matrix ---------------------------------------------------------------------------------


def linear(bias: bool = True) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    model = nn.Sequential(Lambda(lambda x: x.mean(1)), nn.Linear(3, 4, bias=bias), nn.Tanh(), nn.Linear(4, 3)).double()
    return model, [sequences(6, 2, 3), sequences(5, 2, 3)]


def on_sequences() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    return nn.Sequential(Lambda(torch.sin), nn.Linear(3, 4), averaged(4)).double(), [sequences(6, 5, 3)]


def grouped_conv() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, dilation=(1, 2), groups=2)
    return nn.Sequential(Lambda(torch.sin), layer, pooled(6)).double(), [images(5, 4, 6), images(4, 4, 6)]


def conv1d() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    layer = nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular", bias=False)
    return nn.Sequential(Lambda(torch.sin), layer, pooled(6)).double(), [sequences(5, 4, 6)]


NETWORKS = {
    "linear": linear,
    "no bias": lambda: linear(bias=False),
    "sequences": on_sequences,
    "grouped": grouped_conv,
    "conv1d": conv1d,
}


def patches(layer: nn.Module, x: Tensor) -> Tensor:
    """(groups, batch, positions, inputs [+ 1]), one output position at a time and without unfold."""
    if isinstance(layer, nn.Linear):
        rows = x.flatten(1, -2)[None] if x.dim() > 2 else x[None, :, None]
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
        reach = [dilation * (kernel - 1) for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
        starts = [range(0, size - r, stride) for size, r, stride in zip(x.shape[2:], reach, layer.stride, strict=True)]
        cut = []
        for start in product(*starts):
            window = [slice(s, s + r + 1, d) for s, r, d in zip(start, reach, layer.dilation, strict=True)]
            cut.append(x[:, :, *window].flatten(2).unflatten(1, (layer.groups, -1)).flatten(2))
        rows = torch.stack(cut, 2).transpose(0, 1)
    return torch.cat([rows, torch.ones_like(rows[..., :1])], -1) if layer.bias is not None else rows


def taken_apart(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Input rows and output gradients (groups, batch, positions, d) of layer 1, through a graph that is cut there."""
    inputs, outputs = [], []
    for x, labels in batches:
        x = model[0](x)
        y = model[1](x).detach().requires_grad_()
        loss = nn.functional.cross_entropy(model[2:](y), labels, reduction="sum")
        (g,) = torch.autograd.grad(loss, y)
        inputs.append(patches(model[1], x))
        groups = getattr(model[1], "groups", 1)
        g = g.movedim(1, -1) if groups > 1 or not isinstance(model[1], nn.Linear) else g
        g = g.reshape(len(g), -1, groups, g.shape[-1] // groups)
        outputs.append(g.permute(2, 0, 1, 3))
    return torch.cat(inputs, 1), torch.cat(outputs, 1)


def as_matrix(model: nn.Module, v: dict[str, Tensor]) -> Tensor:
    """Layer 1's part of a direction: (groups, outputs, inputs [+ 1])."""
    weight = v["1.weight"].flatten(1).unflatten(0, (getattr(model[1], "groups", 1), -1))
    return weight if "1.bias" not in v else torch.cat([weight, v["1.bias"].view(len(weight), -1, 1)], -1)


def damped(matrix: Tensor) -> Tensor:
    eigenvalues = torch.linalg.eigvalsh(matrix)
    return matrix + DAMPING * eigenvalues.mean() * torch.eye(len(matrix), dtype=matrix.dtype)


def whiten_matrix(a: Tensor, g: Tensor) -> Tensor:
    factor = a.flatten(0, 1).T @ a.flatten(0, 1) / a[..., 0].numel()
    return torch.kron(torch.eye(g.shape[-1], dtype=a.dtype), damped(factor))


def kfac_matrix(a: Tensor, g: Tensor) -> Tensor:
    factor_a = a.flatten(0, 1).T @ a.flatten(0, 1) / a[..., 0].numel()
    factor_g = g.flatten(0, 1).T @ g.flatten(0, 1) / len(g)
    return torch.kron(damped(factor_g), damped(factor_a))


def ekfac_matrix(a: Tensor, g: Tensor) -> Tensor:
    """The sample gradients' second moment, made diagonal in K-FAC's basis."""
    basis_a, basis_g = (torch.linalg.eigh(t.flatten(0, 1).T @ t.flatten(0, 1))[1] for t in (a, g))
    basis = torch.kron(basis_g, basis_a)
    each = torch.einsum("bto,bti->boi", g, a).flatten(1)
    eigenvalues = (each @ basis).square().mean(0)
    return basis @ torch.diag(eigenvalues + DAMPING * eigenvalues.mean()) @ basis.T


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("name", "whole"),
    [("whiten", whiten_matrix), ("kfac", kfac_matrix), ("ekfac", ekfac_matrix)],
    ids=["whiten", "kfac", "ekfac"],
)
def test_kronecker_preconditioners_solve_with_the_whole_matrix(
    name: str, whole: Callable[[Tensor, Tensor], Tensor], network: str
) -> None:
    model, batches = NETWORKS[network]()
    (v,) = random_directions(model, 1, ["1.weight", "1.bias"])
    solved = PRECONDITIONERS[name](model, cross_entropy, batches, list(v), DAMPING)(v)
    inputs, outputs = taken_apart(model, batches)
    expected = torch.stack(
        [
            torch.linalg.solve(whole(a, g), t.flatten())
            for a, g, t in zip(inputs, outputs, as_matrix(model, v), strict=True)
        ]
    )
    torch.testing.assert_close(as_matrix(model, solved).flatten(1), expected, rtol=1e-8, atol=1e-8)


def test_several_runs_of_a_layer_are_further_positions() -> None:
    model, batch = made("called twice")
    names = ["twice.weight", "twice.bias"]
    _, a, g = kronecker_factors(model, cross_entropy, [batch], names, outputs=True)["twice"]
    hidden = model.first(batch[0]).tanh()
    once = model.twice(hidden).tanh()
    rows = torch.cat([torch.cat([t, torch.ones_like(t[:, :1])], 1) for t in (hidden, once)])
    torch.testing.assert_close(a[0], rows.T @ rows / len(rows))
    each = [
        gradient(model, cross_entropy, [(x[None], y[None])], names)["twice.bias"] for x, y in zip(*batch, strict=True)
    ]
    assert torch.linalg.eigvalsh(g[0]).min() >= -1e-12
    assert g.shape == (1, 6, 6)
    assert g[0].trace() > 0.3 * sum(b.square().sum() for b in each) / len(each)


def test_long_inputs_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = grouped_conv()
    names = ["1.weight", "1.bias"]
    positions_and_inputs = 3 * 3 * 12  # of layer 1's weight rows, without the bias
    monkeypatch.setattr("kdaif.influence.direction.ROWS", 2 * positions_and_inputs)
    thinned = kronecker_factors(model, cross_entropy, batches, names, outputs=True)["1"]
    monkeypatch.setattr("kdaif.influence.direction.ROWS", 10**9)
    first_two = [(x[:2], y[:2]) for x, y in batches]
    for one, other in zip(
        thinned[1:], kronecker_factors(model, cross_entropy, first_two, names, outputs=True)["1"][1:], strict=True
    ):
        torch.testing.assert_close(one, other)


def test_norms_and_embeddings_keep_their_gradient() -> None:
    model, batch = made("transformer")
    (v,) = random_directions(model, 1)
    solved = PRECONDITIONERS["kfac"](model, cross_entropy, [batch], list(v), DAMPING)(v)
    for name in ("tokens.weight", "norm1.weight", "norm1.bias"):
        assert torch.equal(solved[name], v[name])
    assert not torch.allclose(solved["up.weight"], v["up.weight"])
    assert {name: t.shape for name, t in solved.items()} == {name: t.shape for name, t in v.items()}


@pytest.mark.parametrize("name", ["whiten", "kfac", "ekfac"])
def test_a_frozen_parameter_stays_out(name: str) -> None:
    model, batches = grouped_conv()
    (v,) = random_directions(model, 1, ["1.weight"])
    solved = PRECONDITIONERS[name](model, cross_entropy, batches, ["1.weight"], DAMPING)(v)
    assert set(solved) == {"1.weight"}


def test_identity_leaves_the_gradient() -> None:
    model, batches = linear()
    (v,) = random_directions(model, 1)
    solved = PRECONDITIONERS["identity"](model, cross_entropy, batches, list(v), DAMPING)(v)
    assert all(torch.equal(solved[name], v[name]) for name in v)


def test_adam_divides_by_the_root_of_the_second_moment() -> None:
    model, batches = linear()
    (v,) = random_directions(model, 1)
    solved = PRECONDITIONERS["adam"](model, cross_entropy, batches, list(v), DAMPING)(v)
    gradients = [gradient(model, cross_entropy, [batch], list(v)) for batch in batches]
    for name, t in v.items():
        root = torch.stack([g[name] for g in gradients]).square().mean(0).sqrt()
        torch.testing.assert_close(solved[name], t / (root + DAMPING * root.mean()))


@pytest.mark.parametrize("damping", [0.0, DAMPING])
def test_exact_solves_with_the_hessian_of_the_mean_loss(damping: float) -> None:
    model, batches = linear()
    model = model.double()
    names = [name for name, _ in model.named_parameters()]
    (v,) = random_directions(model, 1)
    together = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    sizes = [p.numel() for p in model.parameters()]

    def mean_loss(flat: Tensor) -> Tensor:
        parts = flat.split(sizes)
        values = {name: part.view_as(p) for (name, p), part in zip(model.named_parameters(), parts, strict=True)}
        logits = torch.func.functional_call(model, values, (together[0],))
        return nn.functional.cross_entropy(logits, together[1])

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    hessian = torch.func.jacrev(torch.func.jacrev(mean_loss))(flat)
    hessian = hessian + damping * torch.linalg.eigvalsh(hessian).mean() * torch.eye(len(flat), dtype=flat.dtype)
    if damping == 0:  # softmax leaves directions flat
        hessian = hessian + 0.1 * torch.eye(len(flat), dtype=flat.dtype)

    def convex(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        decay = 0.05 * sum(p.square().sum() for p in model.parameters()) if damping == 0 else 0
        return cross_entropy(model, batch) + decay

    solved = PRECONDITIONERS["exact"](model, convex, batches, names, damping)(v)
    expected = torch.linalg.solve(hessian, torch.cat([v[name].flatten() for name in names]))
    torch.testing.assert_close(torch.cat([solved[name].flatten() for name in names]), expected, rtol=1e-6, atol=1e-8)


def test_exact_takes_parameters_without_curvature() -> None:
    model, batches = linear()
    names = [name for name, _ in model.named_parameters()]

    def linear_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model[1](batch[0].mean(1)).square().sum(1)  # the last layer has no part in it

    (v,) = random_directions(model, 1)
    with pytest.raises(RuntimeError, match="singular"):
        PRECONDITIONERS["exact"](model, linear_loss, batches, names, 0.0)(v)
    solved = PRECONDITIONERS["exact"](model, linear_loss, batches, names, 0.1)(v)
    assert all(torch.isfinite(t).all() for t in solved.values())


def test_damping_is_a_share_of_the_mean_eigenvalue() -> None:
    torch.manual_seed(0)
    factors = torch.randn(2, 4, 9, dtype=torch.float64)
    factors = factors @ factors.mT
    expected = torch.stack([torch.linalg.inv(damped(factor)) for factor in factors])
    torch.testing.assert_close(damped_inverse(factors, DAMPING), expected)
    torch.testing.assert_close(damped_inverse(1000 * factors, DAMPING), expected / 1000)  # the scale does not matter


def test_validation_direction_is_the_preconditioned_mean_gradient() -> None:
    model, batches = linear()
    names = [name for name, _ in model.named_parameters()]
    found = validation_direction(model, cross_entropy, batches, names, lambda v: {name: 2 * t for name, t in v.items()})
    mean = gradient(model, cross_entropy, batches, names)
    assert all(torch.allclose(found[name], 2 * mean[name]) for name in names)


# --- what is in a scope ----------------------------------------------------------------------------------------------


def test_scopes_hold_the_trained_parameters() -> None:
    model, _ = made("frozen")
    assert scope_names(model, "all") == ["0.bias", "1.weight", "3.2.bias"]
    assert scope_names(model, "last") == ["3.2.bias"]


@pytest.mark.parametrize(
    ("model", "scope", "sentence"),
    [
        (nn.Linear(2, 2), "first", "scope: got 'first', takes last or all"),
        (
            nn.Sequential(nn.Conv1d(2, 2, 1)),
            "last",
            "Sequential has no nn.Linear, so it has no last layer to take influence in; use scope='all'.",
        ),
        (
            nn.Sequential(nn.Linear(2, 2).requires_grad_(False)),
            "last",
            "the last layer '0' has no trained parameter of its own; use scope='all'",
        ),
    ],
    ids=["name", "no linear", "frozen"],
)
def test_a_scope_without_parameters_is_refused(model: nn.Module, scope: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        scope_names(model, scope)
    assert str(caught.value) == sentence


def test_a_large_model_has_no_exact_hessian() -> None:
    model = nn.Linear(100, 40)
    with pytest.raises(
        ValueError,
        match=r"^the exact Hessian is for models of at most 3,000 parameters, got 4,040; use whiten or kfac$",
    ):
        PRECONDITIONERS["exact"](model, cross_entropy, [], ["weight", "bias"], 0.1)
