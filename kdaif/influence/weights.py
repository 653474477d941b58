"""Influence into weights: what is kept of each sample's scores, how they map to a weight, when that happens.

Three registries, each entry a few lines: `MAPPINGS` (scores -> weight, neutral = 1), `SOURCES` (whose scores: the teacher's
prior, the student's own, both) and `UPDATES` (when scores are made and when weights change):

| update | scores are made | weights change | cost of a step (last layer / all layers) |
|---|---|---|---|
| `online` | for this batch, before its step | at once | nothing more / one more backward pass |
| `lagged` | by the step's own backward | at the sample's next epoch | nothing more / one more run of each layer |
| `periodic` | over the whole set every r epochs | then | one scoring pass every r epochs |
| `two_phase` | along a first training run | once, for a second run from scratch | twice the training |

Every one also pays a validation direction each `refresh_steps` steps. All layers are scored in the step in one epoch out of
`score_epochs` (three), for `lagged` and `two_phase`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kdaif.influence.direction import check_name
from kdaif.influence.probes import Scores
from kdaif.influence.statistics import stouffer, two_groups

Mapping = Callable[[Tensor], Tensor]  # t-statistics -> weights, neutral 1
Rows = Tensor | slice
ALL = slice(None)


@dataclass(frozen=True)
class Update:
    """When an update mechanism scores and reweights."""

    in_step: bool  # scored in the training step
    at_once: bool = False  # and weighted before that very step
    whole_set: bool = False  # scored in passes over the whole set
    phases: int = 1  # training runs


UPDATES: dict[str, Update] = {
    "online": Update(in_step=True, at_once=True),
    "lagged": Update(in_step=True),
    "periodic": Update(in_step=False, whole_set=True),
    "two_phase": Update(in_step=True, phases=2),
}


# --- mappings: fitted to all t-statistics (NaN: not scored yet), then applied to any ----------------------------------


def neutral(t: Tensor) -> Mapping:
    """Weight 1 for every sample: scores are recorded and nothing is done with them."""
    return torch.ones_like


def sigmoid(t: Tensor) -> Mapping:
    """2 sigmoid(t): smooth, 1 at zero, 0.24 at two standard errors below, at most 2 (the paper's shape, absolute scale)."""
    return lambda t: 2 * torch.sigmoid(t)


def hard(t: Tensor) -> Mapping:
    """0 for a significantly harmful sample (t < -2), else 1."""
    return lambda t: (t >= -2).to(t.dtype)


def relu(t: Tensor) -> Mapping:
    """max(t, 0) over its mean: the rectified weights of learning to reweight (Ren et al. 2018)."""
    positive = t[torch.isfinite(t)].clamp_min(0)
    return (lambda t: t.clamp_min(0) / positive.mean()) if positive.any() else torch.ones_like


def posterior(t: Tensor) -> Mapping:
    """1 - P(harmful group | t) from two normals, and 1 for everybody where no harmful group is found."""
    known = t[torch.isfinite(t)]
    if len(known) < 20 or known.min() == known.max():
        return torch.ones_like
    groups = two_groups(known)
    return (lambda t: 1 - groups.posterior(t)) if groups.harmful else torch.ones_like


MAPPINGS: dict[str, Callable[[Tensor], Mapping]] = {
    "neutral": neutral,
    "sigmoid": sigmoid,
    "hard": hard,
    "relu": relu,
    "posterior": posterior,
}


# --- sources: whose influence counts ---------------------------------------------------------------------------------


def from_prior(prior: Tensor, own: Tensor, trust: Tensor) -> Tensor:
    """The teacher's scores alone."""
    return prior


def from_student(prior: Tensor, own: Tensor, trust: Tensor) -> Tensor:
    """The student's own scores alone, once its samples are visited."""
    return own


def from_both(prior: Tensor, own: Tensor, trust: Tensor) -> Tensor:
    """The teacher's as a prior that the student's own update, the more the oftener a sample was visited."""
    both = stouffer(prior, own, trust)
    return torch.where(torch.isfinite(both), both, torch.where(torch.isfinite(own), own, prior))


SOURCES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "teacher": from_prior,
    "student": from_student,
    "both": from_both,
}


@dataclass
class Table:
    """What is known of every sample: running means over its visits, and the weight in force.

    `prior` holds the teacher's t-statistics; `disputed` says where somebody disagrees with the label: only there may a
    weight fall below neutral. `groups` are compared at equal medians: with few validation samples a class, a class that has
    none would look harmful as a whole (CIFAR-100: precision at 100 from 0.31 to 0.87). All tensors have shape (samples,).
    """

    prior: Float[Tensor, "n"]
    disputed: Bool[Tensor, "n"]
    groups: Int64[Tensor, "n"]
    source: str = "student"
    mapping: str = "sigmoid"
    smoothing: float = 0.9
    t: Float[Tensor, "n"] = field(init=False)  # running mean of t over visits, not yet corrected for its start at zero
    t_square: Float[Tensor, "n"] = field(init=False)
    raw: Float[Tensor, "n"] = field(init=False)
    terms: Float[Tensor, "2 n"] = field(
        init=False
    )  # running mean of t of the label's and the teacher's term; NaN: never
    visits: Int64[Tensor, "n"] = field(init=False)
    harmful_visits: Int64[Tensor, "n"] = field(init=False)  # visits with a negative score
    weight: Float[Tensor, "n"] = field(init=False)  # in force
    applied: Float[Tensor, "n"] = field(init=False)  # as applied at the last visit, before the batch mean is set to 1
    offset: Float[Tensor, "n"] = field(init=False)  # what a sample's group lies above all, as of the last fit
    map: Mapping = field(init=False, default=torch.ones_like)

    def __post_init__(self) -> None:
        check_name("source", self.source, SOURCES)
        check_name("mapping", self.mapping, MAPPINGS)
        self.t, self.t_square, self.raw, self.offset = (torch.zeros_like(self.prior) for _ in range(4))
        self.weight, self.applied = (torch.ones_like(self.prior) for _ in range(2))
        self.terms = torch.full((2, *self.prior.shape), torch.nan, dtype=self.prior.dtype, device=self.prior.device)
        self.visits, self.harmful_visits = (torch.zeros_like(self.prior, dtype=torch.int64) for _ in range(2))

    def record(
        self, index: Int64[Tensor, "batch"], scores: Scores, terms: Float[Tensor, "2 batch"] | None = None
    ) -> None:
        """One more visit of the samples, with t of the loss's two terms where they are known; a score that is not finite is no
        visit."""
        seen, t, keep = torch.isfinite(scores.t), scores.t, self.smoothing
        for running, new in ((self.t, t), (self.t_square, t.square()), (self.raw, scores.mean)):
            old = running[index]
            running[index] = torch.where(seen, keep * old + (1 - keep) * new.to(old.dtype), old)
        if terms is not None:
            old = self.terms[:, index]
            self.terms[:, index] = torch.where(torch.isnan(old), terms, keep * old + (1 - keep) * terms).to(old.dtype)
        self.visits[index] += seen.long()
        self.harmful_visits[index] += (seen & (t < 0)).long()

    def trust(self, index: Rows = ALL) -> Float[Tensor, "rows"]:
        """1 - smoothing^visits: 0 for a sample never visited, near 1 for one often visited."""
        return 1 - self.smoothing ** self.visits[index].to(self.t.dtype)

    def own(self, index: Rows = ALL) -> Float[Tensor, "rows"]:
        """The student's mean t over its visits; NaN where it was not visited."""
        return self.t[index] / self.trust(index)

    def spread(self) -> Float[Tensor, "n"]:
        """Standard deviation of the student's t over its visits."""
        return (self.t_square / self.trust() - self.own().square()).clamp_min(0).sqrt()

    def influence(self, index: Rows = ALL) -> Float[Tensor, "rows"]:
        """The t-statistic that the weights are made from; NaN where nothing is known."""
        return SOURCES[self.source](self.prior[index], self.own(index), self.trust(index)) - self.offset[index]

    def fit(self) -> None:
        """Fits offsets and mapping to all samples and puts the weights of all in force."""
        self._fit_offset()
        self.map = MAPPINGS[self.mapping](self.influence())
        self.weight = self.weights_of(ALL)

    def _fit_offset(self) -> None:
        self.offset.zero_()
        influence = self.influence()
        for group in self.groups.unique():
            members = self.groups == group
            above = influence[members].nanmedian() - influence.nanmedian()
            self.offset[members] = torch.nan_to_num(above)

    def weights_of(self, index: Rows) -> Float[Tensor, "rows"]:
        """Weights of the samples from what is known now, by the mapping fitted last; 1 where nothing is known."""
        influence = self.influence(index)
        weight = torch.where(torch.isfinite(influence), self.map(torch.nan_to_num(influence)), 1.0)
        return torch.where(self.disputed[index], weight, weight.clamp_min(1.0))

    def state_dict(self) -> dict[str, Tensor]:
        """All that a resumed run needs."""
        names = ("prior", "disputed", "t", "t_square", "raw", "terms", "visits", "harmful_visits")
        return {name: getattr(self, name).clone() for name in (*names, "weight", "applied", "offset")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over a saved state and fits the mapping again."""
        for name, value in state.items():
            getattr(self, name).copy_(value)
        self.map = MAPPINGS[self.mapping](self.influence())
