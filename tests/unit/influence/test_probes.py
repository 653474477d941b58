"""Means and standard errors against explicit per-sample gradients, and the calibration of t."""

import math

import pytest
import torch
from torch import Tensor, nn

from kdaif.influence import FoldProbe, HeadProbe, make_probe
from tests.unit.influence.cases import criterion, make


def sample_gradients(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """(samples, parameters) of the last layer."""
    head = list(model.parameters())[-2:]
    losses = criterion(model, batch)
    return torch.stack(
        [torch.cat([g.flatten() for g in torch.autograd.grad(one, head, retain_graph=True)]) for one in losses]
    )


def test_head_probe_equals_explicit_products() -> None:
    model, batch = make("conv groups")
    model.double()
    validation = (torch.randn(7, 2, 7, 7).double(), torch.randint(0, 3, (7,)))
    probe = make_probe(
        model,
        criterion,
        [(validation[0][:3], validation[1][:3]), (validation[0][3:], validation[1][3:])],
        preconditioner="identity",
    )
    assert isinstance(probe, HeadProbe)
    scores = probe(model, criterion, batch)
    each = sample_gradients(model, batch) @ sample_gradients(model, validation).mT
    torch.testing.assert_close(scores.mean.double(), each.mean(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores.error.double(), each.std(1) / math.sqrt(7), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["identity", "whiten", "kfac"])
def test_folds_of_equal_size_give_the_same_mean(kind: str) -> None:
    model, batch = make("conv groups")
    x, y = torch.randn(8, 2, 7, 7).double(), torch.randint(0, 3, (8,))
    folds = list(zip(x.chunk(4), y.chunk(4)))
    head = make_probe(model, criterion, folds, preconditioner=kind)(model, criterion, batch)
    names = [name for name, _ in model.named_parameters()]
    whole = make_probe(model, criterion, folds, preconditioner=kind, scope="all")
    assert isinstance(whole, FoldProbe)
    last = FoldProbe([{n: t for n, t in v.items() if n in names[-2:]} for v in whole.directions])
    torch.testing.assert_close(last(model, criterion, batch).mean.float(), head.mean.float(), rtol=1e-3, atol=1e-5)


def test_t_is_calibrated_where_nothing_harms() -> None:
    """Labels drawn from the model itself, inputs at random: influence is zero on average, and 2.3 % lie below t = -2."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    x = torch.randn(6000, 6)
    # one validation set makes the t of all samples go together; over 20 of them the share settles
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        y = torch.distributions.Categorical(logits=model(x)).sample()
        probe = make_probe(model, criterion, [(x[:2000], y[:2000])])
        t = probe(model, criterion, (x[2000:], y[2000:])).t
        shares.append(float((t < -2).float().mean()))
    assert 0.01 < sum(shares) / 20 < 0.045


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"preconditioner": "newton"}, "takes one of identity"),
        ({"scope": "all"}, "at least 2 validation batches"),
        ({"scope": "middle"}, "takes last or all"),
    ],
)
def test_bad_probes(options: dict[str, str], sentence: str) -> None:
    model, batch = make("conv groups")
    with pytest.raises(ValueError, match=sentence):
        make_probe(model, criterion, [batch], **options)  # type: ignore[arg-type]


def test_one_validation_sample_has_no_standard_error() -> None:
    model, (x, y) = make("conv groups")
    with pytest.raises(ValueError, match="at least 2 validation samples, got 1"):
        make_probe(model, criterion, [(x[:1], y[:1])])


def test_sequence_heads_need_all_layers() -> None:
    model = nn.Linear(4, 3)
    batch = torch.randn(2, 5, 4), torch.randint(0, 3, (2, 5))

    def per_sample(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]).mT, batch[1], reduction="none").sum(1)

    with pytest.raises(ValueError, match="one row a sample"):
        make_probe(model, per_sample, [batch])
