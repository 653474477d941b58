"""The two-group test finds a harmful group where there is one, and none where there is none."""

import pytest
import scipy.stats
import torch

from kdaif.influence import two_groups
from kdaif.influence.statistics import stouffer


def normal(mean: float, std: float, n: int) -> torch.Tensor:
    return mean + std * torch.randn(n, generator=torch.Generator().manual_seed(n))


# Student's t with 5 degrees of freedom, well above zero
HEAVY = torch.tensor(scipy.stats.t(5, 5).rvs(4000, random_state=0))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6])
def test_recovers_planted_groups(share: float) -> None:
    harmful = round(5000 * share)
    groups = two_groups(torch.cat([normal(-3, 1, harmful), normal(3, 1, 5000 - harmful)]))
    assert groups.harmful
    assert groups.means.tolist() == pytest.approx([-3, 3], abs=0.2)
    assert groups.std == pytest.approx(1, abs=0.1)
    assert groups.shares.tolist() == pytest.approx([share, 1 - share], abs=0.02)


@pytest.mark.parametrize(
    "t",
    [normal(0, 1, 5000), normal(2, 1, 5000), torch.cat([normal(1.7, 0.5, 2000), normal(2.9, 0.5, 3000)]), HEAVY],
    ids=["null", "helpful", "two helpful groups", "heavy tails"],
)
def test_finds_no_harmful_group(t: torch.Tensor) -> None:
    assert not two_groups(t).harmful


def test_posterior_falls_in_t() -> None:
    groups = two_groups(torch.cat([normal(-2, 1.5, 500), normal(2, 0.7, 1500)]))
    t = torch.linspace(-50, 50, 1001)
    probability = groups.posterior(t)
    assert (probability.diff() <= 1e-7).all()
    assert probability[0] > 0.999 > 0.001 > probability[-1]


def test_is_deterministic_and_leaves_nan_out() -> None:
    t = torch.cat([normal(-3, 1, 300), normal(3, 1, 700)])
    with_nan = torch.cat([t, torch.full((50,), torch.nan)])
    first, second = two_groups(t), two_groups(with_nan)
    assert first.gain == second.gain
    assert torch.equal(first.means, second.means)


def test_needs_two_values() -> None:
    with pytest.raises(ValueError, match="at least two different values"):
        two_groups(torch.ones(10))


def test_stouffer_keeps_the_scale() -> None:
    first, second = normal(0, 1, 20_000), normal(0, 1, 19_999)[:20_000]
    second = torch.cat([second, torch.zeros(1)])
    for trust in (0.0, 0.5, 1.0):
        assert float(stouffer(first, second, torch.full_like(first, trust)).std()) == pytest.approx(1, abs=0.03)
