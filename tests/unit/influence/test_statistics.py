"""Planted groups are found, and none are found where there are none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdaif.influence.statistics import TwoGroups, significant_share, stouffer, two_groups


def planted(
    share: float, low: float, high: float, n: int = 4000, spread: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """t-statistics of two groups, and who is in the harmful one."""
    generator = torch.Generator().manual_seed(seed)
    harmful = torch.rand(n, generator=generator) < share
    means = torch.where(harmful, low, high)
    return means + spread * torch.randn(n, generator=generator), harmful


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6])
@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.2), (-4.0, 1.5), (-1.5, 4.0)])
def test_planted_groups_are_recovered(share: float, low: float, high: float) -> None:
    t, harmful = planted(share, low, high)
    groups = two_groups(t)
    assert groups.harmful
    assert groups.means.tolist() == pytest.approx([low, high], abs=0.35)
    assert groups.stds.tolist() == pytest.approx([1, 1], abs=0.25)
    assert float(groups.shares[0]) == pytest.approx(share, abs=0.04)
    rejected = groups.posterior(t) > 0.5
    assert float((rejected == harmful).double().mean()) > 0.95
    assert groups.posterior(t).dtype == t.dtype


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "make",
    [
        lambda n, g: torch.randn(n, generator=g),
        lambda n, g: 1.0 + 2.0 * torch.randn(n, generator=g),
        lambda n, g: torch.where(torch.rand(n, generator=g) < 0.3, 0.2, 2.5) + 0.6 * torch.randn(n, generator=g),
        lambda n, g: 0.8 + torch.randn(n, generator=g) / (torch.randn(3, n, generator=g).square().mean(0)).sqrt(),
        lambda n, g: 3.0 + 1.5 * torch.randn(n, generator=g).exp(),
    ],
    ids=["one normal", "one wide normal", "two groups that help", "heavy tails", "skewed"],
)
def test_no_harmful_group_where_there_is_none(make: object, seed: int) -> None:
    t = make(2000, torch.Generator().manual_seed(seed))  # type: ignore[operator]
    assert not two_groups(t).harmful


def test_a_lower_t_never_means_a_smaller_probability() -> None:
    t, _ = planted(0.3, -2.0, 2.0, spread=1.3)
    groups = TwoGroups(
        two_groups(t).means, torch.tensor([0.4, 2.5], dtype=torch.float64), torch.tensor([0.3, 0.7]), 100.0
    )
    for fitted in (two_groups(t), groups):  # also where the upper group is wider, so that its density wins far below
        posterior = fitted.posterior(torch.linspace(-30, 30, 2001, dtype=torch.float64))
        assert (posterior.diff() <= 1e-12).all()
        assert posterior.min() >= 0
        assert posterior.max() <= 1


def test_fit_is_the_same_every_time_and_in_any_order() -> None:
    t, _ = planted(0.2, -2.0, 2.0)
    first, again, shuffled = two_groups(t), two_groups(t), two_groups(t[torch.randperm(len(t))])
    assert torch.equal(first.means, again.means)
    torch.testing.assert_close(first.means, shuffled.means, rtol=1e-4, atol=1e-4)


def test_scores_not_yet_known_are_left_out() -> None:
    t, _ = planted(0.2, -2.0, 2.0)
    with_gaps = torch.cat([t, torch.full((500,), torch.nan), torch.tensor([torch.inf])])
    assert torch.equal(two_groups(with_gaps).means, two_groups(t).means)
    posterior = two_groups(t).posterior(torch.tensor([-5.0, 5.0]))
    assert posterior[0] > 0.99
    assert posterior[1] < 0.01


@settings(max_examples=15, deadline=None, derandomize=True)
@given(n=st.integers(2, 30), value=st.floats(-5, 5), constant=st.booleans(), seed=st.integers(0, 9))
def test_few_or_equal_scores_break_nothing(n: int, value: float, constant: bool, seed: int) -> None:
    t = torch.full((n,), value) if constant else torch.randn(n, generator=torch.Generator().manual_seed(seed)) + value
    groups = two_groups(t)
    assert torch.isfinite(groups.posterior(t)).all()
    assert not (constant and groups.harmful)


def test_significant_share_is_the_lower_tail() -> None:
    assert significant_share(torch.tensor([-3.0, -2.0, -1.0, 5.0])) == 0.25
    assert significant_share(torch.randn(200_000, generator=torch.Generator().manual_seed(0))) == pytest.approx(
        0.0228, abs=0.001
    )


def test_stouffer_counts_the_second_by_its_trust() -> None:
    a, b = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0))
    for trust in (0.0, 0.5, 1.0):
        combined = stouffer(a, b, torch.full_like(a, trust))
        assert combined.std() == pytest.approx(1, abs=0.01)  # stays on the normal scale
    assert torch.equal(stouffer(a, b, torch.zeros_like(a)), a)
    torch.testing.assert_close(stouffer(a, b, torch.ones_like(a)), (a + b) / 2**0.5)
