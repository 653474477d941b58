"""Mappings, sources and the table."""

import pytest
import torch

from kdaif.influence import MAPPINGS, SOURCES, Scores, Table

T = torch.cat([torch.full((100,), -4.0), torch.full((400,), 3.0)]) + torch.linspace(-0.5, 0.5, 500)


@pytest.mark.parametrize("name", list(MAPPINGS))
def test_mappings_do_not_fall_with_influence(name: str) -> None:
    mapping = MAPPINGS[name](T)
    weight = mapping(torch.linspace(-10, 10, 200))
    assert (weight >= 0).all()
    assert (weight.diff() >= -1e-6).all()


@pytest.mark.parametrize(
    ("name", "t", "weight"),
    [
        ("sigmoid", 0, 1),
        ("hard", 0, 1),
        ("hard", -2.1, 0),
        ("neutral", -9, 1),
        ("posterior", 3, 1),
        ("posterior", -4, 0),
    ],
)
def test_neutral_points(name: str, t: float, weight: float) -> None:
    assert float(MAPPINGS[name](T)(torch.tensor([float(t)]))) == pytest.approx(weight, abs=1e-3)


def test_posterior_rejects_nobody_in_one_group() -> None:
    t = 2 + torch.randn(500, generator=torch.Generator().manual_seed(0))
    assert (MAPPINGS["posterior"](t)(t) == 1).all()


def test_sources() -> None:
    prior, own, trust = torch.tensor([1.0, 1.0]), torch.tensor([3.0, torch.nan]), torch.tensor([1.0, 0.0])
    assert SOURCES["teacher"](prior, own, trust).tolist() == [1, 1]
    assert SOURCES["student"](prior, own, trust)[0] == 3
    both = SOURCES["both"](prior, own, trust)
    assert both.tolist() == pytest.approx([4 / 2**0.5, 1])


def table(**options: object) -> Table:
    size = 4
    defaults = {
        "prior": torch.full((size,), torch.nan),
        "disputed": torch.ones(size, dtype=torch.bool),
        "groups": torch.zeros(size, dtype=torch.int64),
    }
    return Table(**{**defaults, **options})  # type: ignore[arg-type]


def test_running_means_over_visits() -> None:
    known = table(smoothing=0.5)
    for t in (2.0, -2.0, 4.0):
        known.record(torch.tensor([1]), Scores(torch.tensor([float(t)]), torch.tensor([1.0])))
    assert known.visits.tolist() == [0, 3, 0, 0]
    assert known.harmful_visits.tolist() == [0, 1, 0, 0]
    assert float(known.own()[1]) == pytest.approx((0.125 * 2 - 0.25 * 2 + 0.5 * 4) / 0.875)
    assert torch.isnan(known.own()[0])
    assert float(known.spread()[1]) == pytest.approx(
        ((0.125 * 4 + 0.25 * 4 + 0.5 * 16) / 0.875 - float(known.own()[1]) ** 2) ** 0.5
    )


def test_a_score_that_is_not_finite_is_no_visit() -> None:
    known = table()
    known.record(torch.tensor([0, 1]), Scores(torch.tensor([torch.nan, 1.0]), torch.tensor([1.0, 1.0])))
    assert known.visits.tolist() == [0, 1, 0, 0]


def test_only_disputed_labels_fall_below_neutral() -> None:
    known = table(
        prior=torch.tensor([-9.0, -9.0, 9.0, 9.0]),
        disputed=torch.tensor([True, False, True, False]),
        source="teacher",
        mapping="sigmoid",
    )
    known.fit()
    assert known.weight.tolist() == pytest.approx([0, 1, 2, 2], abs=1e-3)


def test_groups_are_compared_at_equal_medians() -> None:
    known = table(prior=torch.tensor([-5.0, -3.0, 3.0, 5.0]), groups=torch.tensor([0, 0, 1, 1]), source="teacher")
    known.fit()
    influence = known.influence()
    assert float(influence[1] - influence[0]) == 2
    assert influence[:2].tolist() == influence[2:].tolist()
