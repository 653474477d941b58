"""Methods that leave samples out: weight 0 or 1.

| method | who judges | when |
|---|---|---|
| `small-loss` | the student's own losses | every epoch anew |
| `aum` | two side networks, by the margin while they learn | once, before the student starts |
| `confident-learning` | side networks, each on the fold that it never saw | once, before the student starts |
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from kdaif.baselines.side import train_side
from kdaif.data import Batch
from kdaif.evaluate import opinions, predict
from kdaif.task import task_of
from kdaif.weighting import FixedWeights, Setting, Step

THRESHOLD = "threshold sample"  # the class of AUM that no sample truly has

# --- small loss ------------------------------------------------------------------------------------------------------


class SmallLoss(FixedWeights):
    """`Weighting` of method small-loss: each epoch only the samples with the smallest losses count.

    The schedule is Co-teaching's (Han et al., arXiv 1804.06872, algorithm 1) after a warm-up: in its T-th epoch the share
    min(T / T_k, 1) tau is left out, T_k = `baselines.warmup` of all epochs, and the warm-up, in which all samples count, is
    as long: from the first epoch on, the unlearnt samples of a short training are left out and never learnt. What
    differs besides: one network selects for itself, where two teach each
    other; the choice is made over all samples before an epoch, not in each batch; a sample's loss is the one on
    its label, smoothed over its visits. tau is `baselines.noise_rate` or estimated (`estimated_rate`), anew before each epoch:
    an early estimate, from a student that knows little, can be far too large.
    """

    def __init__(self, setting: Setting) -> None:
        samples = len(setting.dataset.train)
        super().__init__(torch.ones(samples, device=setting.device))
        self.settings = setting.config.baselines
        self.warmup = max(1, round(self.settings.warmup * setting.config.student.optim.epochs))
        self.losses = torch.full((samples,), torch.nan, device=setting.device)
        self.rate = self.settings.noise_rate or 0.0

    def loss(self, step: Step) -> Tensor:
        began = time.monotonic()
        fresh = task_of(step.labels).loss(step.logits.detach().float(), step.labels)
        old, kept = self.losses[step.index], self.settings.smoothing
        self.losses[step.index] = torch.where(old.isnan(), fresh, kept * old + (1 - kept) * fresh)
        self.seconds += time.monotonic() - began
        return super().loss(step)

    def before_epoch(self, epoch: int) -> None:
        done = epoch - 1 - self.warmup
        if done <= 0:
            return
        began = time.monotonic()
        if self.settings.noise_rate is None:
            self.rate = estimated_rate(self.losses)
        out = round(min(done / self.warmup, 1.0) * self.rate * len(self.losses))
        self.weight = torch.ones_like(self.weight)
        self.weight[self.losses.argsort(descending=True, stable=True)[:out]] = 0.0
        self.seconds += time.monotonic() - began

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "losses": self.losses, "rate": self.rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weight, self.losses, self.rate = state["weight"], state["losses"], state["rate"]


def estimated_rate(losses: Float[Tensor, "n"]) -> float:
    """Share of samples that a mixture of two normals, fitted to losses scaled to 0..1, puts into the group of larger losses.

    As DivideMix tells clean from noisy (Li, Socher, Hoi, arXiv 2002.07394, section 3.1; with beta distributions Arazo et al.,
    arXiv 1904.11238). It finds two groups on clean data too: hard samples are then left out. 0 where all losses are equal.
    """
    span = losses.max() - losses.min()
    if span <= 0:
        return 0.0
    scaled = ((losses - losses.min()) / span).double().cpu().numpy()[:, None]
    mixture = GaussianMixture(2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        groups = mixture.fit_predict(scaled)
    return float((groups == mixture.means_.argmax()).mean())


# --- retrained without ----------------------------------------------------------------------------------------------


class Without(FixedWeights):
    """Weight 0 for the samples that `judge` (a mask over the training samples) finds before the first epoch.

    A resumed run takes the weights from its checkpoint and judges nothing again.
    """

    def __init__(self, setting: Setting, judge: Callable[[Setting], Bool[Tensor, "n"]]) -> None:
        super().__init__(torch.ones(len(setting.dataset.train), device=setting.device))
        self.setting, self.judge = setting, judge

    def before_epoch(self, epoch: int) -> None:
        if epoch == 1:
            began = time.monotonic()
            self.weight = (~self.judge(self.setting)).float().to(self.setting.device)
            self.seconds += time.monotonic() - began

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weight = state["weight"]


def aum(setting: Setting) -> Without:
    """Method aum: retrained without the samples whose margins stay below those of threshold samples."""
    return Without(setting, below_threshold)


def below_threshold(setting: Setting) -> Bool[Tensor, "n"]:
    """Which samples have a smaller area under the margin than a wrong label explains (Pleiss et al., arXiv 2001.10528).

    A side network has one class more than the data, and n / (classes + 1) threshold samples carry it as their label. The
    AUM is the mean over epochs of the labelled logit less the largest other. A sample is out whose AUM lies below the
    `baselines.percentile` (99th) of the threshold samples' AUMs. A second network with other threshold samples judges
    those of the first; where both judge a sample, the mean of AUM less threshold counts. The learning rate is constant,
    as the paper trains up to the first drop. Costs two trainings of the student's network without a teacher.
    """
    dataset, config = setting.dataset, setting.config
    samples, fake = len(dataset.train), len(dataset.classes)
    count = -(-samples // (fake + 1))
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(config.seed))
    above, judged = torch.zeros(samples), torch.zeros(samples)
    for number in (0, 1):
        marked = order[number * count : (number + 1) * count]
        labels = dataset.train.labels.index_fill(0, marked, fake)
        network_data = replace(
            dataset, train=replace(dataset.train, labels=labels), classes=(*dataset.classes, THRESHOLD)
        )
        areas = torch.zeros(samples, device=setting.device)

        def add(batch: Batch, logits: Tensor, areas: Tensor = areas) -> None:
            areas[batch.index] += opinions(logits, batch.labels).margin

        optim = config.student.optim.model_copy(update={"schedule": "constant"})
        stage = f"AUM network {number + 1}"
        train_side(setting, network_data, optim, stage=stage, seed=config.seed + number, watch=add)
        aums = areas.cpu() / optim.epochs
        others = torch.ones(samples).index_fill(0, marked, 0.0)
        above += others * (aums - torch.quantile(aums[marked], config.baselines.percentile / 100))
        judged += others
    return above / judged < 0


def confident_learning(setting: Setting) -> Without:
    """Method confident-learning: retrained without the label errors that held-out probabilities show."""
    return Without(setting, lambda setting: label_errors(held_out_probabilities(setting), setting.dataset.train.labels))


def held_out_probabilities(setting: Setting) -> Float[Tensor, "n classes"]:
    """Each training sample's class probabilities by a side network that was trained on the other folds.

    `baselines.folds` networks of the student's kind (no more than samples), on labels alone: they cost folds - 1 trainings of
    the student without a teacher. A linear head on the teacher's features would be cheaper, but the teacher has learnt the
    held-out labels too, and its features with them.
    """
    dataset, config = setting.dataset, setting.config
    folds = min(config.baselines.folds, len(dataset.train))
    fold = folds_of(dataset.train.labels, folds, config.seed)
    probabilities = torch.zeros(len(fold), len(dataset.classes))
    for number in range(folds):
        held = fold == number
        kept = replace(dataset, train=dataset.train.subset(~held))
        stage = f"confident-learning network {number + 1}"
        network = train_side(setting, kept, config.student.optim, stage=stage, seed=config.seed + number)
        logits = predict(network, setting.ordered(dataset.train.subset(held)))
        probabilities[held] = logits.softmax(1).cpu()
    return probabilities


def folds_of(labels: Int64[Tensor, "n"], folds: int, seed: int) -> Int64[Tensor, "n"]:
    """A fold (0..folds - 1) for each sample: random, every class spread evenly over them."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[by_class] = torch.arange(len(labels)) % folds
    return fold


def label_errors(probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """The samples off the diagonal of the confident joint (Northcutt, Jiang, Chuang, arXiv 1911.00068, equations 1 and 2).

    A class's threshold is the mean probability of it among the samples labelled so. A sample is counted under the most
    probable of the classes whose threshold it reaches; it is an error where that is not its label ("prune by C").
    """
    classes = probabilities.shape[1]
    confidence = probabilities.gather(1, labels[:, None]).squeeze(1)
    total = torch.zeros(classes).index_add_(0, labels, confidence)
    count = torch.bincount(labels, minlength=classes)
    threshold = torch.where(count > 0, total / count, torch.inf)
    reached = probabilities.masked_fill(probabilities < threshold, -1.0)
    best, counted_as = reached.max(1)
    return (best >= 0) & (counted_as != labels)
