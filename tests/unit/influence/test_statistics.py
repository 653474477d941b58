"""Planted groups are found, and none are found where there are none."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from kdaif.influence.statistics import stouffer, two_groups


def planted(share: float, low: float, high: float, n: int = 4000, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """t-statistics of two groups, and who is in the harmful one."""
    generator = Generator().manual_seed(0)
    harmful = torch.rand(n, generator=generator) < share
    return torch.where(harmful, low, high) + spread * torch.randn(n, generator=generator), harmful


def student(n: int, freedom: int, generator: Generator) -> Tensor:
    """Student's t: heavy tails."""
    chi = torch.randn(freedom, n, generator=generator).square().mean(0)
    return torch.randn(n, generator=generator) / chi.sqrt()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6])
@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.2), (-4.0, 1.5), (-2.5, 4.0)])
def test_planted_groups_are_recovered(share: float, low: float, high: float) -> None:
    t, harmful = planted(share, low, high)
    groups = two_groups(t)
    assert groups.harmful
    assert groups.means.tolist() == pytest.approx([low, high], abs=0.25)
    assert groups.std == pytest.approx(1, abs=0.1)
    assert groups.shares.tolist() == pytest.approx([share, 1 - share], abs=0.03)
    posterior = groups.posterior(t)
    assert posterior.dtype == t.dtype
    assert float(((posterior > 0.5) == harmful).double().mean()) > 0.95
    assert float(posterior.mean()) == pytest.approx(share, abs=0.03)


NOBODY: dict[str, Callable[[int, Generator], Tensor]] = {
    "chance": lambda n, g: torch.randn(n, generator=g),
    "one wide group that helps": lambda n, g: 2.0 + 2.0 * torch.randn(n, generator=g),
    "two groups that help": lambda n, g: (
        torch.where(torch.rand(n, generator=g) < 0.3, 0.2, 2.5) + 0.6 * torch.randn(n, generator=g)
    ),
    "two groups near zero": lambda n, g: (
        torch.where(torch.rand(n, generator=g) < 0.3, -0.2, 2.0) + 0.4 * torch.randn(n, generator=g)
    ),
    "a hard part that lies nearer to zero": lambda n, g: (
        torch.where(torch.rand(n, generator=g) < 0.1, -4.0, 12.0) + torch.randn(n, generator=g)
    ),
    "heavy tails far above zero": lambda n, g: 6.0 + student(n, 5, g),
    "skewed": lambda n, g: 3.0 + 1.5 * torch.randn(n, generator=g).exp(),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", NOBODY)
def test_no_harmful_group_where_there_is_none(kind: str, seed: int) -> None:
    assert not two_groups(NOBODY[kind](2000, Generator().manual_seed(seed))).harmful


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("freedom", [3, 5])
def test_heavy_tails_near_zero_cost_no_more_than_the_tail(freedom: int, seed: int) -> None:
    """Two normals take a heavy lower tail for a group of its own: never more than a few per cent, all clearly negative."""
    t = 1.0 + student(2000, freedom, Generator().manual_seed(seed))
    rejected = two_groups(t).posterior(t) > 0.5
    assert float(rejected.double().mean()) < 0.03
    assert t[rejected].max() < -1


def test_a_lower_t_never_means_a_smaller_probability() -> None:
    t, harmful = planted(0.3, -2.0, 2.0)
    t = torch.where(harmful, 2 * t, t)  # also where the harmful group is the wider one
    posterior = two_groups(t).posterior(torch.linspace(-30, 30, 2001, dtype=torch.float64))
    assert (posterior.diff() <= 1e-12).all()
    assert posterior[0] > 0.999 > 0.001 > posterior[-1]


def test_fit_is_the_same_every_time_and_in_any_order() -> None:
    t, _ = planted(0.2, -2.0, 2.0)
    first, again, shuffled = two_groups(t), two_groups(t), two_groups(t.flip(0))
    assert torch.equal(first.means, again.means)
    torch.testing.assert_close(first.means, shuffled.means)


def test_scores_not_yet_known_are_left_out() -> None:
    t, _ = planted(0.2, -2.0, 2.0)
    with_gaps = torch.cat([t, torch.full((500,), torch.nan), torch.tensor([torch.inf])])
    assert torch.equal(two_groups(with_gaps).means, two_groups(t).means)


@pytest.mark.parametrize("t", [torch.ones(10), torch.tensor([1.0]), torch.full((5,), torch.nan)])
def test_two_groups_need_two_values(t: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^two groups need at least two different values of t$"):
        two_groups(t)


def test_stouffer_counts_the_second_by_its_trust() -> None:
    a, b = torch.randn(2, 100_000, generator=Generator().manual_seed(0))
    for trust in (0.0, 0.5, 1.0):
        combined = stouffer(a, b, torch.full_like(a, trust))
        assert combined.std() == pytest.approx(1, abs=0.01)  # stays on the normal scale
    assert torch.equal(stouffer(a, b, torch.zeros_like(a)), a)
    torch.testing.assert_close(stouffer(a, b, torch.ones_like(a)), (a + b) / 2**0.5)
