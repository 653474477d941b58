"""Two small models to retrain: the run's own student, and a convex one that training brings to its one optimum."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn

from kdaif.audit import peers
from kdaif.audit.checkpoint import Case, Effort, Pair, draw
from kdaif.audit.truth import PAIRS, PLAIN, Bench, Pairs, pair_scores
from kdaif.callbacks import Callback, Moment
from kdaif.data import Batch, Batches
from kdaif.data.split import Split
from kdaif.fit import fit, make_accelerator, new_model
from kdaif.influence.layers import head
from kdaif.optim import make_optimizer
from kdaif.task import NUMBERS, task_of

PENALTY = 0.03  # of the squared weights, a sample
ABSENT = -14.0  # the bias of a class that no sample has: a probability of a millionth
LARGEST = 3000  # parameters that the exact Hessian takes


def student_bench(case: Case, samples: int) -> Bench:
    """The run's student, trained as the run says but on labels alone, on at most `samples` random training samples."""
    train = _some(case.dataset.train, samples)
    config, device, accelerator = case.config, case.device, make_accelerator(case.config)
    optim = config.student.optim

    def learn(positions: NDArray[np.int64], seed: int) -> nn.Module:
        torch.manual_seed(seed)
        network = new_model(config.student.model, case.dataset, device, "student.model")
        options: dict[str, Any] = {"shuffle": True, "augment": config.data.augment, "device": device, "seed": seed}
        chosen = train.subset(torch.from_numpy(positions))
        batches = Batches(chosen, case.dataset.mean, case.dataset.std, optim.batch_size, **options)
        optimizer, schedule = make_optimizer(network, optim, optim.epochs * len(batches), "student.optim")
        moment = Moment(stage="audit", epochs=optim.epochs)
        fit(network, batches, _label_loss, optimizer, schedule, accelerator, Callback(), moment, seed=seed)
        return network.eval()

    return Bench(learn, case.pair(train), case.pair(case.targets()), case.pair(case.dataset.test))


def convex_bench(case: Case, samples: int) -> Bench:
    """Softmax regression (of numbers: linear regression) in double precision, with an exact Hessian that is small enough: on grey
    images, averaged down; on what the run's teacher hands to its last layer for a sentence, where there are no pixels.

    The penalty on the weights is `PENALTY` times the number of all samples, whichever of them are left out.
    """
    train, validation, test = (
        _convex_pair(case, split) for split in (_some(case.dataset.train, samples), case.targets(), case.dataset.test)
    )
    classes = len(case.dataset.classes)
    largest = int(LARGEST / classes - 1)
    rows: nn.Module = nn.Flatten() if train[0].dim() == 2 else _Grey(min(train[0].shape[-1], int(largest**0.5)))
    width = rows(train[0][:1]).shape[1]

    def learn(positions: NDArray[np.int64], seed: int) -> nn.Module:
        linear = nn.Linear(width, classes, dtype=torch.float64, device=case.device)
        network = nn.Sequential(rows, linear)
        chosen = torch.from_numpy(positions).to(case.device)
        inputs, labels = rows(train[0][chosen]).cpu().numpy(), train[1][chosen].cpu().numpy()
        weight, bias = _optimum(inputs, labels, PENALTY * len(train[1]), classes)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        return network.eval()

    return Bench(learn, train, validation, test)


def _optimum(
    inputs: NDArray[Any], labels: NDArray[Any], penalty: float, outputs: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight (outputs, inputs) and bias (outputs,) where summed losses + penalty / 2 times the squared weights are least."""
    if labels.dtype.kind == "f":
        line = Ridge(alpha=penalty / 2).fit(inputs, labels)
        return line.coef_[None], np.array([line.intercept_])
    weight, bias = np.zeros((outputs, inputs.shape[1])), np.full(outputs, ABSENT)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    two = len(present) == 2  # the library then fits one row w, which stands for w / 2 and -w / 2
    solver = LogisticRegression(C=(2 if two else 1) / penalty, solver="newton-cholesky", tol=1e-9)
    with warnings.catch_warnings(action="ignore"):
        solver.fit(inputs, labels)
    rows, offsets = solver.coef_, solver.intercept_
    if two:
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    weight[present], bias[present] = rows, offsets
    return weight, bias


def _convex_pair(case: Case, split: Split) -> Pair:
    """Images, or rows of features of sentences, and labels; in double precision."""
    inputs, labels = case.pair(split)
    if split.texts is not None:
        inputs = _features(case, split)
        largest = int(LARGEST / len(case.dataset.classes) - 1)
        if inputs.shape[1] > largest:
            inputs = F.adaptive_avg_pool1d(inputs[:, None], largest).squeeze(1)
    return inputs.double(), labels.double() if task_of(labels) is NUMBERS else labels


@torch.no_grad()
def _features(case: Case, split: Split) -> Tensor:
    """What the teacher's last layer takes in, a row a sample in the split's order."""
    seen: list[Tensor] = []
    listening = head(case.teacher)[1].register_forward_pre_hook(lambda layer, args: seen.append(args[0].float()))
    try:
        index = []
        for batch in case.batches(split):
            case.teacher(batch.inputs)
            index.append(batch.index)
    finally:
        listening.remove()
    rows = torch.cat(seen)
    return torch.empty_like(rows).index_copy_(0, torch.cat(index), rows)


def student_pairs(case: Case, effort: Effort) -> dict[str, Pairs]:
    """All pair scores of the plain loss, and `<scope>_as_in_run`: with the run's own settings."""
    slow = {"captum": {"captum_arnoldi": partial(peers.arnoldi, krylov=effort.arnoldi)}} if effort.arnoldi else {}
    scope = case.config.influence.scope
    return {**PAIRS, **peers.installed(slow), f"{scope}_as_in_run": _as_in_run(case, scope)}


def convex_pairs(case: Case, effort: Effort) -> dict[str, Pairs]:
    """The same, and `all_exact`: with the Hessian of the penalised training loss. There is no layer but the last."""

    def exact(network: nn.Module, train: Pair, validation: Pair) -> Tensor:
        # a trace of damping: adding a constant to all biases changes no loss, so the Hessian alone has no inverse
        settings: dict[str, Any] = {"scope": "all", "preconditioner": "exact", "damping": 1e-8}
        return pair_scores(network, train, validation, **settings, curved=_penalised, curvature=train)

    pairs = {name: of for name, of in student_pairs(case, effort).items() if not name.startswith("last_")}
    return {**pairs, "all_as_in_run": _as_in_run(case, "all"), "all_exact": exact}


def _as_in_run(case: Case, scope: str) -> Pairs:
    own = case.config.influence
    settings: dict[str, Any] = {"scope": scope, "preconditioner": own.preconditioner, "damping": case.damping}
    return partial(pair_scores, **settings, criterion=case.criterion, scored=case.scored_criterion)


class _Grey(nn.Module):
    """Images as `side` x `side` grey pixels in a row."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, inputs: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(inputs.mean(1, keepdim=True), self.side).flatten(1)


def _some(train: Split, samples: int) -> Split:
    chosen = draw(1).permutation(len(train))[:samples]
    return train.subset(torch.from_numpy(np.sort(chosen)))


def _label_loss(network: nn.Module, batch: Batch) -> Tensor:
    return task_of(batch.labels).loss(network(batch.inputs), batch.labels).mean()


def _penalised(network: nn.Module, batch: Pair) -> Tensor:
    return PLAIN(network, batch) + PENALTY / 2 * network.get_parameter("1.weight").square().sum()
