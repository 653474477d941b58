"""Scores with their standard error: against every pair of gradients written out, and against what chance gives."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence.direction import PRECONDITIONERS, scope_names
from kdaif.influence.probes import PAIRWISE, FoldProbe, HeadProbe, Scores, make_probe
from kdaif.influence.scores import loop
from tests.unit.influence.cases import Batch, Lambda, averaged, cross_entropy, images, made, relative_error, sequences


def network() -> tuple[nn.Module, Batch, list[Batch]]:
    """A model, a training batch and four validation batches of equal size."""
    model, _ = made("batch norm 2d")
    return model.eval(), images(7, 3, 6), [images(5, 3, 6) for _ in range(4)]


def pairs(model: nn.Module, train: Batch, validation: list[Batch], names: list[str], preconditioner: str) -> Tensor:
    """(validation, train): <P^-1 grad l_j, grad l_i> of every pair, from per-sample gradients."""
    inverse = PRECONDITIONERS[preconditioner](model, cross_entropy, validation, names, 0.1)
    parameters = dict(model.named_parameters())
    rows = []
    for x, y in [(x[None], y[None]) for batch in validation for x, y in zip(*batch, strict=True)]:
        parts = torch.autograd.grad(cross_entropy(model, (x, y)).sum(), [parameters[name] for name in names])
        direction = inverse(dict(zip(names, parts, strict=True)))
        rows.append(loop(model, cross_entropy, train, [direction])[0])
    return torch.stack(rows)


@pytest.mark.parametrize("preconditioner", PAIRWISE)
def test_last_layer_scores_are_means_over_all_pairs(preconditioner: str) -> None:
    model, train, validation = network()
    probe = make_probe(model, cross_entropy, validation, preconditioner=preconditioner)
    assert isinstance(probe, HeadProbe)
    scores = probe(model, cross_entropy, train)
    each = pairs(model, train, validation, scope_names(model, "last"), preconditioner)
    torch.testing.assert_close(scores.mean, each.mean(0))
    torch.testing.assert_close(scores.error, each.std(0) / math.sqrt(len(each)))
    assert scores.freedom == len(each) - 1


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("preconditioner", PAIRWISE)
def test_a_frozen_part_of_the_last_layer_has_no_share(preconditioner: str, frozen: str) -> None:
    model, train, validation = network()
    getattr(model[3][2], frozen).requires_grad_(False)
    scores = make_probe(model, cross_entropy, validation, preconditioner=preconditioner)(model, cross_entropy, train)
    each = pairs(model, train, validation, scope_names(model, "last"), preconditioner)
    torch.testing.assert_close(scores.mean, each.mean(0))


@pytest.mark.parametrize("preconditioner", ["identity", "adam", "whiten", "kfac", "ekfac"])
def test_fold_scores_are_means_over_folds_in_all_layers(preconditioner: str) -> None:
    model, train, validation = network()
    probe = make_probe(model, cross_entropy, validation, scope="all", preconditioner=preconditioner)
    assert isinstance(probe, FoldProbe)
    scores = probe(model, cross_entropy, train)
    each = pairs(model, train, validation, scope_names(model, "all"), preconditioner)
    folds = each.unflatten(0, (4, 5)).mean(1)
    torch.testing.assert_close(scores.mean, each.mean(0))
    torch.testing.assert_close(scores.error, folds.std(0) / 2)
    assert scores.freedom == 3


def test_both_probes_agree_on_the_mean_where_folds_are_of_equal_size() -> None:
    model, train, validation = network()
    names = scope_names(model, "last")
    by_pairs = make_probe(model, cross_entropy, validation)(model, cross_entropy, train)
    inverse = PRECONDITIONERS["whiten"](model, cross_entropy, validation, names, 0.1)
    directions = [pairs_gradient(model, batch, names) for batch in validation]
    by_folds = FoldProbe([inverse(v) for v in directions])(model, cross_entropy, train)
    torch.testing.assert_close(by_pairs.mean, by_folds.mean)


def pairs_gradient(model: nn.Module, batch: Batch, names: list[str]) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    parts = torch.autograd.grad(cross_entropy(model, batch).mean(), [parameters[name] for name in names])
    return dict(zip(names, parts, strict=True))


@pytest.mark.parametrize("preconditioner", ["adam", "ekfac", "exact"])
def test_the_last_layer_takes_every_preconditioner(preconditioner: str) -> None:
    model, train, validation = network()
    probe = make_probe(model, cross_entropy, validation, preconditioner=preconditioner)
    assert isinstance(probe, FoldProbe)
    each = pairs(model, train, validation, scope_names(model, "last"), preconditioner)
    torch.testing.assert_close(probe(model, cross_entropy, train).mean, each.mean(0))


@pytest.mark.parametrize("scope", ["last", "all"])
def test_curvature_can_come_from_other_samples(scope: str) -> None:
    model, train, validation = network()
    others = [images(9, 3, 6)]
    probe = make_probe(model, cross_entropy, validation, scope=scope, curvature=others)
    names = scope_names(model, scope)
    inverse = PRECONDITIONERS["whiten"](model, cross_entropy, others, names, 0.1)
    directions = [inverse(pairs_gradient(model, batch, names)) for batch in validation]
    torch.testing.assert_close(
        probe(model, cross_entropy, train).mean, loop(model, cross_entropy, train, directions).mean(0)
    )


@pytest.mark.parametrize("scope", ["last", "all"])
def test_terms_have_scores_and_errors_of_their_own(scope: str) -> None:
    model, train, validation = network()
    probe = make_probe(model, cross_entropy, validation, scope=scope)
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))

    def terms(model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch[0])
        return torch.stack([0.3 * F.cross_entropy(logits, batch[1], reduction="none"), logits.square().sum(1)])

    probe(model, terms, train)  # finds out that nothing stands in the way
    passes.clear()
    scores = probe(model, terms, train)
    assert len(passes) == 1
    assert scores.mean.shape == scores.t.shape == (2, len(train[1]))
    for number in (0, 1):
        alone = probe(model, lambda m, b, n=number: terms(m, b)[n], train)
        torch.testing.assert_close(scores.mean[number], alone.mean)
        torch.testing.assert_close(scores.error[number], alone.error)
    whole = probe(model, lambda m, b: terms(m, b).sum(0), train)
    torch.testing.assert_close(scores.mean.sum(0), whole.mean)
    reference = pairs(model, train, validation, scope_names(model, scope), "whiten").mean(0)
    torch.testing.assert_close(scores.mean[0], 0.3 * reference)


def test_a_module_of_the_users_own_is_scored_by_forward_mode() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(4, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    torch.manual_seed(0)
    model = nn.Sequential(Scale(), averaged(4).double())
    train, validation = sequences(6, 3, 4), [sequences(5, 3, 4) for _ in range(3)]
    probe = make_probe(model, cross_entropy, validation, scope="all", preconditioner="identity")
    with pytest.warns(UserWarning, match="Scale"):
        scores = probe(model, cross_entropy, train)
    each = pairs(model, train, validation, scope_names(model, "all"), "identity")
    assert relative_error(scores.mean, each.mean(0)) < 1e-10


@pytest.mark.parametrize("preconditioner", ["identity", "whiten", "kfac", "ekfac", "exact"])
@pytest.mark.parametrize("scope", ["last", "all"])
def test_a_model_may_be_one_bare_layer(scope: str, preconditioner: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    train, *validation = ((x[:, 0], y) for x, y in (sequences(6, 1, 4) for _ in range(5)))
    scores = make_probe(model, cross_entropy, validation, scope=scope, preconditioner=preconditioner)(
        model, cross_entropy, train
    )
    each = pairs(model, train, validation, ["weight", "bias"], preconditioner)
    torch.testing.assert_close(scores.mean, each.mean(0))
    assert not torch.allclose(each.mean(0), pairs(model, train, validation, ["weight", "bias"], "adam").mean(0))


def significant_share(t: Tensor) -> float:
    """Share of samples that look harmful."""
    return float((t < -2).double().mean())


# --- what chance gives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [3, 7, 15, 255])
def test_t_is_on_the_normal_scale_however_few_the_folds(freedom: int) -> None:
    """Of pure noise 2.28 % lie below -2; 40,000 draws tell that to 0.15 points (2 standard errors)."""
    generator = torch.Generator().manual_seed(0)
    folds = torch.randn(freedom + 1, 40_000, generator=generator)
    scores = FoldProbe([{"w": torch.zeros(1)}] * (freedom + 1)).of_folds(folds)
    assert significant_share(scores.t) == pytest.approx(0.0228, abs=0.002)
    assert significant_share(-scores.t) == pytest.approx(0.0228, abs=0.002)
    assert scores.t.std() == pytest.approx(1, abs=0.03)


def test_t_keeps_sign_and_order() -> None:
    mean = torch.tensor([-100.0, -3.0, -1e-3, 0.0, 2.0, 50.0])
    t = Scores(mean, torch.ones(6), 7).t
    assert torch.equal(t.sign(), mean.sign())
    assert torch.equal(t.argsort(), torch.arange(6))
    assert t[1] == pytest.approx(-2.35, abs=0.05)  # a Student t of -3 with 7 degrees of freedom has p = 0.0100
    torch.testing.assert_close(Scores(mean, torch.ones(6), 10**6).t[1:5], mean[1:5], rtol=1e-3, atol=0)


def test_no_error_gives_no_infinity() -> None:
    t = Scores(torch.tensor([0.0, 1.0, -1.0]), torch.zeros(3), 7).t
    assert t[0] == 0
    assert torch.isfinite(t).all()


@pytest.mark.parametrize(("scope", "size"), [("last", 256), ("all", 128)])
def test_null_is_calibrated_through_a_network(scope: str, size: int) -> None:
    """Labels that are pure chance help and harm by chance alone: over many validation sets 2.3 % have t < -2.

    All samples are held against one validation set, so the share of a single set scatters (0.3 to 6 %); the mean of 50 sets has a
    standard error of 0.3 points, and is held to 0.9.
    """
    torch.manual_seed(0)
    shares = []
    for _ in range(50):
        model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4, bias=False))
        nn.init.zeros_(model[2].weight)  # predicts the uniform truth: no gradient has a mean
        train = torch.randn(400, 10), torch.randint(0, 4, (400,))
        validation = [(torch.randn(size // 8, 10), torch.randint(0, 4, (size // 8,))) for _ in range(8)]
        scores = make_probe(model, cross_entropy, validation, scope=scope)(model, cross_entropy, train)
        shares.append(significant_share(scores.t))
    assert sum(shares) / len(shares) == pytest.approx(0.0228, abs=0.009)


# --- bad input -------------------------------------------------------------------------------------------------------


def refused(model: nn.Module, validation: list[Batch], **settings: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        make_probe(model, cross_entropy, validation, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_settings_are_refused_with_one_sentence() -> None:
    model, _, validation = network()
    assert refused(model, validation, preconditioner="newton") == (
        "preconditioner: got 'newton', takes one of identity, adam, whiten, kfac, ekfac, exact"
    )
    assert refused(model, validation, scope="first") == "scope: got 'first', takes last or all"
    assert refused(model, []) == "validation: influence needs at least 2 validation samples, got none"
    assert refused(model, [images(1, 3, 6)]) == "influence needs at least 2 validation samples, got 1"
    assert (
        refused(model, validation[:1], scope="all")
        == "a standard error needs at least 2 validation batches as folds, got 1"
    )


def test_a_last_layer_that_is_not_one_row_a_sample_is_refused() -> None:
    on_sequences = nn.Sequential(nn.Linear(4, 3), Lambda(lambda x: x.mean(1))).double()
    said = refused(on_sequences, [sequences(5, 3, 4)])
    assert said == "the last layer must give one row a sample, got an output of shape (5, 3, 3); use scope='all'"

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(x.mean(1)).tanh())

    assert (
        refused(Twice().double(), [sequences(5, 3, 4)])
        == "the last layer must run once for a loss, got 2 runs; use scope='all'"
    )

    class Merged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(0, 1)).view(*x.shape[:2], 3).mean(1)

    said = refused(Merged().double(), [sequences(5, 3, 4)])
    assert said.startswith("the last layer cannot be scored (layer 'fc' has an output of 15 rows for 5 samples")

    class Bypassed(Merged):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x.mean(1), self.fc.weight) + self.fc(x.mean(1)).tanh()

    assert "do not add up to the batch gradient" in refused(Bypassed().double(), [sequences(5, 3, 4)])


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("preconditioner", [name for name in PRECONDITIONERS if name != "exact"])
def test_under_autocast_sums_stay_in_float32(preconditioner: str, scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's autocast, unlike the CPU's, widens nothing for an inverse, which then refuses half precision."""
    for name in ("inv", "eigh"):
        of_gpu = autocast_off(getattr(torch.linalg, name))
        monkeypatch.setattr(torch.linalg, name, of_gpu)
    model, train, validation = network()
    model, train, validation = model.float(), single(train), [single(batch) for batch in validation]
    probe = make_probe(model, cross_entropy, validation, preconditioner=preconditioner, scope=scope)
    wide = probe(model, cross_entropy, train)
    with torch.autocast("cpu", torch.bfloat16):
        probe = make_probe(model, cross_entropy, validation, preconditioner=preconditioner, scope=scope)
        found = probe(model, cross_entropy, train)
    assert {found.mean.dtype, found.error.dtype} == {torch.float32}
    assert torch.corrcoef(torch.stack([found.t, wide.t]))[0, 1] > 0.99
    rounded = found.mean.bfloat16().float()
    assert not torch.equal(found.mean, rounded)


def single(batch: Batch) -> Batch:
    return batch[0].float(), batch[1]


def autocast_off(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return function(*args)

    return call
