"""From scores to weights: every mapping's neutral point, what a table remembers, whose scores count."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kdaif.influence.probes import Scores
from kdaif.influence.weights import MAPPINGS, SOURCES, UPDATES, Table

MANY = 10**6  # degrees of freedom at which t is mean / error


def table(n: int = 6, **settings: object) -> Table:
    prior = settings.pop("prior", torch.full((n,), torch.nan))
    disputed = settings.pop("disputed", torch.ones(n, dtype=torch.bool))
    groups = settings.pop("groups", torch.zeros(n, dtype=torch.int64))
    return Table(prior, disputed, groups, **settings)  # type: ignore[arg-type]


def scores(t: list[float]) -> Scores:
    return Scores(2 * torch.tensor(t), torch.full((len(t),), 2.0), MANY)


def two_group_t(n: int = 400, share: float = 0.25) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    harmful = torch.arange(n) < share * n
    return torch.where(harmful, -3.0, 2.0) + torch.randn(n, generator=generator)


# --- mappings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_gives_1_to_all_while_nothing_is_known(name: str) -> None:
    weights = table(mapping=name)
    weights.fit()
    assert torch.equal(weights.weight, torch.ones(6))


@pytest.mark.parametrize(
    ("name", "neutral", "low", "high"),
    [
        ("neutral", 0.0, 1.0, 1.0),
        ("sigmoid", 0.0, 2 / (1 + math.exp(2.5)), 2 / (1 + math.exp(-2.5))),
        ("hard", 0.0, 0.0, 1.0),
    ],
)
def test_neutral_points_and_ends(name: str, neutral: float, low: float, high: float) -> None:
    mapped = MAPPINGS[name](torch.randn(50))(torch.tensor([-2.5, neutral, 2.5]))
    assert mapped.tolist() == pytest.approx([low, 1.0, high])


def test_hard_keeps_all_that_is_not_significant() -> None:
    mapped = MAPPINGS["hard"](torch.zeros(1))(torch.tensor([-2.01, -2.0, -1.0, 0.0]))
    assert mapped.tolist() == [0, 1, 1, 1]


def test_relu_is_neutral_at_the_mean_of_the_positive_parts() -> None:
    t = torch.tensor([-1.0, 3.0, 4.0, torch.nan])
    mapping = MAPPINGS["relu"](t)
    assert mapping(t[:3]).tolist() == pytest.approx([0, 9 / 7, 12 / 7])
    assert mapping(t[:3]).mean() == pytest.approx(1)
    assert torch.equal(MAPPINGS["relu"](torch.tensor([-1.0, -2.0]))(t[:3]), torch.ones(3))  # nobody helps: no ranking


def test_posterior_rejects_the_harmful_group_and_nobody_where_there_is_none() -> None:
    t = two_group_t()
    weights = MAPPINGS["posterior"](t)(t)
    assert weights[:100].mean() < 0.1
    assert weights[100:].mean() > 0.95
    clean = torch.randn(400, generator=torch.Generator().manual_seed(1)) + 1
    assert torch.equal(MAPPINGS["posterior"](clean)(clean), torch.ones(400))
    for poor in (t[:19], torch.full((50,), -3.0)):  # too few, or too much the same, to fit two groups to
        assert torch.equal(MAPPINGS["posterior"](poor)(poor), torch.ones_like(poor))


@pytest.mark.parametrize("name", MAPPINGS)
def test_mappings_rise(name: str) -> None:
    mapped = MAPPINGS[name](two_group_t())(torch.linspace(-8, 8, 200))
    assert (mapped.diff() >= -1e-6).all()
    assert (mapped >= 0).all()


def test_only_disputed_samples_fall_below_neutral() -> None:
    weights = table(2, disputed=torch.tensor([True, False]))
    weights.record(torch.tensor([0, 1]), scores([-3.0, -3.0]))
    weights.fit()
    assert weights.weight[0] < 0.2
    assert weights.weight[1] == 1


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_visits_are_averaged_without_a_start_at_zero() -> None:
    weights = table(3, smoothing=0.8)
    seen = [[1.0, -2.0], [3.0, -4.0], [2.0, 1.0]]
    for t in seen:
        weights.record(torch.tensor([0, 2]), scores(t))
    share = torch.tensor([0.8**2, 0.8, 1.0])
    expected = (share[:, None] * torch.tensor(seen)).sum(0) / share.sum()
    torch.testing.assert_close(weights.own(torch.tensor([0, 2])), expected)
    torch.testing.assert_close(weights.raw[[0, 2]] / weights.trust(torch.tensor([0, 2])), 2 * expected)
    assert torch.isnan(weights.own()[1])
    assert weights.visits.tolist() == [3, 0, 3]
    assert weights.harmful_visits.tolist() == [0, 0, 2]
    assert weights.trust().tolist() == pytest.approx([1 - 0.8**3, 0, 1 - 0.8**3])
    square = (share[:, None] * torch.tensor(seen).square()).sum(0) / share.sum()
    torch.testing.assert_close(weights.spread()[[0, 2]], (square - expected.square()).sqrt())


def test_terms_are_averaged_from_their_first_visit_on() -> None:
    weights = table(3, smoothing=0.5)
    for t in ([1.0, -2.0], [3.0, 2.0]):
        weights.record(torch.tensor([0, 2]), scores(t), torch.tensor([t, [-number for number in t]]))
    weights.record(torch.tensor([0]), scores([9.0]))  # a visit without them
    torch.testing.assert_close(weights.terms[:, [0, 2]], torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))
    assert torch.isnan(weights.terms[:, 1]).all()


def test_without_smoothing_the_last_visit_counts() -> None:
    weights = table(2, smoothing=0.0)
    for t in (5.0, -1.0):
        weights.record(torch.tensor([0]), scores([t]))
    assert weights.own()[0] == pytest.approx(-1)
    assert torch.isnan(weights.own()[1])


def test_a_score_that_is_not_finite_is_no_visit() -> None:
    weights = table(3)
    weights.record(torch.tensor([0, 1, 2]), Scores(torch.tensor([1.0, torch.nan, torch.inf]), torch.ones(3), MANY))
    assert weights.visits.tolist() == [1, 0, 0]
    assert torch.isfinite(weights.t).all()


# --- whose scores ----------------------------------------------------------------------------------------------------


def test_sources() -> None:
    nan = torch.nan
    prior, own = torch.tensor([1.0, 1.0, nan, nan]), torch.tensor([-3.0, nan, -3.0, nan])
    trust = torch.tensor([0.5, 0.0, 0.5, 0.0])
    assert torch.equal(SOURCES["teacher"](prior, own, trust).nan_to_num(7), prior.nan_to_num(7))
    assert torch.equal(SOURCES["student"](prior, own, trust).nan_to_num(7), own.nan_to_num(7))
    both = SOURCES["both"](prior, own, trust)
    assert both[:3].tolist() == pytest.approx([(1 - 0.5 * 3) / math.sqrt(1.25), 1.0, -3.0])
    assert torch.isnan(both[3])


def test_the_students_scores_count_more_with_each_visit() -> None:
    weights = table(1, prior=torch.tensor([3.0]), source="both", smoothing=0.5)
    weights.fit()
    course = [float(weights.influence()[0])]
    for _ in range(4):
        weights.record(torch.tensor([0]), scores([-3.0]))
        course.append(float(weights.influence()[0]))
    assert course[0] == 3
    assert all(later < earlier for earlier, later in pairwise(course))
    assert course[-1] == pytest.approx(0, abs=0.3)


def test_groups_are_compared_at_equal_medians() -> None:
    prior = torch.tensor([-6.0, -5.0, -4.0, 4.0, 5.0, 7.0, torch.nan])
    weights = table(7, prior=prior, groups=torch.tensor([0, 0, 0, 1, 1, 1, 2]), source="teacher")
    assert torch.equal(weights.influence().nan_to_num(9), prior.nan_to_num(9))
    weights.fit()
    influence = weights.influence()
    assert influence[:3].median() == influence[3:6].median()
    assert influence[:3].diff().tolist() == [1, 1]  # within a group nothing changes
    assert influence[3:6].diff().tolist() == [1, 2]
    assert torch.isnan(influence[6])
    assert weights.weight[6] == 1
    again = table(7, prior=prior, groups=weights.groups, source="teacher")
    again.load_state_dict(weights.state_dict())
    assert torch.equal(again.influence().nan_to_num(9), influence.nan_to_num(9))


# --- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_saved_table_goes_on_as_the_first(mapping: str) -> None:
    first = table(400, mapping=mapping)
    first.record(torch.arange(400), scores(two_group_t().tolist()))
    first.fit()
    second = table(400, mapping=mapping)
    second.load_state_dict(first.state_dict())
    for one in (first, second):
        one.record(torch.arange(50), scores([-1.0] * 50))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.weights_of(slice(None)), second.weights_of(slice(None)))
    assert torch.equal(first.visits, second.visits)


def test_a_saved_state_is_a_copy() -> None:
    weights = table(2)
    state = weights.state_dict()
    weights.record(torch.tensor([0]), scores([1.0]))
    assert state["visits"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mapping": "cubic"}, "mapping: got 'cubic', takes one of neutral, sigmoid, hard, relu, posterior"),
        ({"source": "god"}, "source: got 'god', takes one of teacher, student, both"),
    ],
)
def test_unknown_names_are_refused(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        table(**settings)
    assert str(caught.value) == sentence


def test_updates_say_when_they_score() -> None:
    assert {name for name, update in UPDATES.items() if update.in_step} == {"online", "lagged", "two_phase"}
    assert {name for name, update in UPDATES.items() if update.whole_set} == {"periodic"}
    assert UPDATES["two_phase"].phases == 2
