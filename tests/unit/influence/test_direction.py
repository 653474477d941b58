"""Preconditioners against explicit matrices, and the sign and size of influence against leaving a sample out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence import PRECONDITIONERS, scope_names, validation_direction
from kdaif.influence.scores import layerwise
from kdaif.metrics.detection import auroc
from tests.unit.influence.cases import CLASSES, criterion, direction, images, make

DAMPING = 0.1


def damped(matrix: Tensor) -> Tensor:
    return matrix + DAMPING * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=matrix.dtype)


def linear_case() -> tuple[nn.Module, tuple[Tensor, Tensor], Tensor, Tensor]:
    """A linear model, its batch, the inputs with a 1 for the bias, and the loss gradients in the logits."""
    model, (x, y) = make("linear")
    delta = F.softmax(model(x), 1).detach() - F.one_hot(y, CLASSES)
    return model, (x, y), torch.cat([x, torch.ones(len(x), 1)], 1), delta


def as_matrix(v: dict[str, Tensor]) -> Tensor:
    return torch.cat([v["weight"], v["bias"][:, None]], 1)


@pytest.mark.parametrize("name", ["whiten", "kfac"])
def test_kronecker_preconditioners_equal_the_dense_solve(name: str) -> None:
    model, batch, a, delta = linear_case()
    v = direction(model)
    solved = PRECONDITIONERS[name](model, criterion, [batch], list(v), DAMPING)(v)
    left = damped(a.mT @ a / len(a))
    right = damped(delta.mT @ delta / len(a)) if name == "kfac" else torch.eye(CLASSES, dtype=a.dtype)
    dense = torch.linalg.solve(torch.kron(right, left), as_matrix(v).flatten())
    torch.testing.assert_close(as_matrix(solved).flatten(), dense, rtol=1e-4, atol=1e-5)


def test_ekfac_measures_its_eigenvalues() -> None:
    model, batch, a, delta = linear_case()
    v = direction(model)
    solved = PRECONDITIONERS["ekfac"](model, criterion, [batch], list(v), DAMPING)(v)
    basis_a, basis_g = torch.linalg.eigh(a.mT @ a)[1], torch.linalg.eigh(delta.mT @ delta)[1]
    each = torch.einsum("bo,bi->boi", delta @ basis_g, a @ basis_a).square().mean(0)
    turned = basis_g.mT @ as_matrix(v) @ basis_a / (each + DAMPING * each.mean())
    torch.testing.assert_close(as_matrix(solved), basis_g @ turned @ basis_a.mT, rtol=1e-4, atol=1e-4)


def test_exact_is_the_hessian() -> None:
    model, batch, _, _ = linear_case()
    v = direction(model)
    solved = PRECONDITIONERS["exact"](model, criterion, [batch], list(v), DAMPING)(v)
    parameters = torch.cat([p.flatten() for p in model.parameters()]).detach()

    def loss(flat: Tensor) -> Tensor:
        weight, bias = flat[:-CLASSES].view(CLASSES, -1), flat[-CLASSES:]
        return F.cross_entropy(F.linear(batch[0], weight, bias), batch[1])

    hessian = torch.autograd.functional.hessian(loss, parameters)
    flat = torch.cat([v[n].flatten() for n, _ in model.named_parameters()])
    expected = torch.linalg.solve(damped(hessian), flat)
    torch.testing.assert_close(torch.cat([solved[n].flatten() for n in v]), expected)


def test_exact_refuses_large_models() -> None:
    model = nn.Linear(100, 100)
    with pytest.raises(ValueError, match="at most 3,000 parameters, got 10,100"):
        PRECONDITIONERS["exact"](model, criterion, [], ["weight", "bias"], DAMPING)


def test_adam_divides_by_the_root_second_moment() -> None:
    model, batch, a, delta = linear_case()
    v = direction(model)
    solved = PRECONDITIONERS["adam"](model, criterion, [batch], list(v), DAMPING)(v)
    root = (delta.mT @ a / len(a)).abs()[:, :-1]
    torch.testing.assert_close(solved["weight"], v["weight"] / (root + DAMPING * root.mean() + 1e-12))


@pytest.mark.parametrize("name", ["whiten", "kfac", "ekfac"])
def test_grouped_convolution_is_preconditioned_group_by_group(name: str) -> None:
    torch.manual_seed(0)
    model, batch = images(nn.Conv2d(4, 8, 3, groups=2))
    v = direction(model)
    solved = PRECONDITIONERS[name](model, criterion, [batch], list(v), DAMPING)(v)
    assert solved["2.weight"].shape == v["2.weight"].shape
    alone = {n: torch.zeros_like(t) for n, t in v.items()}
    alone["2.weight"][:4] = v["2.weight"][:4]
    alone["2.bias"][:4] = v["2.bias"][:4]
    first = PRECONDITIONERS[name](model, criterion, [batch], list(v), DAMPING)(alone)
    torch.testing.assert_close(first["2.weight"][:4], solved["2.weight"][:4])
    assert first["2.weight"][4:].abs().max() == 0


def test_scopes() -> None:
    model, _ = make("conv groups")
    assert scope_names(model, "last") == ["4.weight", "4.bias"]
    assert scope_names(model, "all") == [name for name, _ in model.named_parameters()]
    with pytest.raises(ValueError, match="takes last or all"):
        scope_names(model, "first")
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        scope_names(nn.Sequential(nn.Conv2d(1, 1, 1)), "last")


def fit_convex(x: Tensor, y: Tensor, weight: Tensor) -> nn.Module:
    """Weighted logistic regression with a ridge, to convergence."""
    model = nn.Linear(x.shape[1], 2).double()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ridge(model, (x, y, weight)).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def ridge(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    x, y, weight = batch
    size = sum(p.square().sum() for p in model.parameters())
    return weight * F.cross_entropy(model(x), y, reduction="none") + 0.01 * size


def test_leave_one_out() -> None:
    torch.manual_seed(0)
    n = 150
    x = torch.randn(n + 300, 5, dtype=torch.float64)
    clean = (x @ torch.randn(5, dtype=torch.float64) > 0).long()
    flipped = torch.rand(n) < 0.2
    y = clean.clone()
    y[:n][flipped] = 1 - y[:n][flipped]
    ones = torch.ones(n, dtype=torch.float64)
    validation = (x[n:], clean[n:])
    model = fit_convex(x[:n], y[:n], ones)
    train = (x[:n], y[:n], ones)
    inverse = PRECONDITIONERS["exact"](model, ridge, [train], ["weight", "bias"], 1e-12)
    v = validation_direction(model, criterion, [validation], ["weight", "bias"], inverse)
    influence = layerwise(model, criterion, (x[:n], y[:n]), [v])[0].detach()

    change = []
    for left_out in range(n):
        weight = ones.clone()
        weight[left_out] = 0
        without = fit_convex(x[:n], y[:n], weight)
        change.append((criterion(without, validation) - criterion(model, validation)).mean().item())
    # helpful (positive) = the validation loss rises without the sample
    assert np.corrcoef(influence.numpy(), change)[0, 1] >= 0.99
    assert influence[flipped].mean() < 0 < influence[~flipped].mean()
    assert auroc(-influence.numpy(), flipped.numpy()) > 0.9
