"""Other people's detectors on our checkpoints: captum and cleanlab, both from the extra `audit`.

captum's classes get one checkpoint and learning rate 1, so that a score is a plain sum of gradient products, and a copy of the
network in plain memory format, for they fail on channels-last gradients. TracInCP and ArnoldiInfluenceFunction take a batch
apart and go back through all of it for every sample, so they get batches of one: the same scores, and a batch's size times
as fast where the samples are many.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdaif.audit.checkpoint import BATCH, Checkpoint, Pair, Score
from kdaif.influence.layers import head
from kdaif.task import task_of

Entry = TypeVar("Entry")


class _Loss(nn.Module):
    """The plain loss in the form that captum asks for."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        each = task_of(labels).loss(outputs, labels)
        return each.sum() if self.reduction == "sum" else each


_EACH, _SUM = _Loss("none"), _Loss("sum")


def tracin_fast(network: nn.Module, train: Pair, validation: Pair) -> Float[Tensor, "validation train"]:
    """TracInCPFast: gradient products in the last layer's weight; it leaves the bias out."""
    return _tracin_fast(network, train).influence(_plain(validation)).detach()


def arnoldi(
    network: nn.Module, train: Pair, validation: Pair, krylov: int = 200, curved: int | None = None
) -> Float[Tensor, "validation train"]:
    """ArnoldiInfluenceFunction, all layers: the Hessian of the loss of the first `curved` training samples (None: of all), on
    its top quarter of `krylov` directions."""
    from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction

    data, size = TensorDataset(*_plain(train)), max(1, krylov // 4)
    bent = DataLoader(TensorDataset(*(part[:curved] for part in _plain(train))), BATCH)
    settings = {"loss_fn": _EACH, "batch_size": 1, "hessian_dataset": bent}
    with _quiet():
        peer = ArnoldiInfluenceFunction(
            _copy(network), data, "", _as_it_is, arnoldi_dim=krylov, projection_dim=size, **settings
        )
        return peer.influence(one_by_one(validation)).detach()


def tracin_fast_score(checkpoint: Checkpoint) -> Score:
    """TracInCPFast against the validation targets."""
    pairs = tracin_fast(checkpoint.network, checkpoint.train, checkpoint.validation)
    return -_numpy(pairs.mean(0))


def tracin_self_score(checkpoint: Checkpoint) -> Score:
    """TracInCPFast against the sample itself: the squared norm of its gradient, no validation needed."""
    return _numpy(_tracin_fast(checkpoint.network, checkpoint.train).self_influence())


def tracin_score(checkpoint: Checkpoint) -> Score:
    """TracInCP, all layers, against the validation targets."""
    from captum.influence import TracInCP

    network, data = _copy(checkpoint.network), TensorDataset(*_plain(checkpoint.train))
    with _quiet():
        peer = TracInCP(network, data, [""], _as_it_is, loss_fn=_EACH, batch_size=1)
        summed = peer.influence(one_by_one(checkpoint.validation), aggregate=True)[0]
    return -_numpy(summed) / len(checkpoint.validation[0])


def arnoldi_score(checkpoint: Checkpoint) -> Score:
    """ArnoldiInfluenceFunction against the validation targets."""
    settings = {"krylov": checkpoint.krylov, "curved": checkpoint.curved}
    return -_numpy(arnoldi(checkpoint.network, checkpoint.train, checkpoint.validation, **settings).mean(0))


def confident_learning(checkpoint: Checkpoint, adjusted: bool = True) -> Score:
    """cleanlab's normalised margin; `adjusted` by confident learning's class thresholds.

    The probabilities are the checkpoint's own, on samples that it was trained on. cleanlab asks for held-out ones (k trainings
    more): in-sample ones are too sure of every label that was learnt by heart, so with cross-validation it can do better
    than here. All the other detectors stand under the same handicap.
    """
    from cleanlab.rank import get_label_quality_scores

    inputs, labels = checkpoint.train
    with torch.no_grad():
        probabilities = torch.cat([checkpoint.network(part).double().softmax(1) for part in inputs.split(BATCH)])
    quality = get_label_quality_scores(
        labels.cpu().numpy(), _numpy(probabilities), method="normalized_margin", adjust_pred_probs=adjusted
    )
    return -np.asarray(quality, dtype=float)


# package -> what needs it
PEERS: dict[str, dict[str, Callable[[Checkpoint], Score]]] = {
    "captum": {
        "captum_tracincp_fast": tracin_fast_score,
        "captum_tracincp_fast_self": tracin_self_score,
        "captum_tracincp": tracin_score,
        "captum_arnoldi": arnoldi_score,
    },
    "cleanlab": {"confident_learning": confident_learning},
}


def missing() -> list[str]:
    """The packages of `PEERS` that are not installed."""
    return [package for package in PEERS if find_spec(package) is None]


def installed(entries: Mapping[str, Mapping[str, Entry]]) -> dict[str, Entry]:
    """The entries, given by package, whose package is there."""
    absent = missing()
    return {name: entry for package, of in entries.items() if package not in absent for name, entry in of.items()}


def _tracin_fast(network: nn.Module, train: Pair) -> Any:
    from captum.influence import TracInCPFast

    network = _copy(network)
    settings = {"loss_fn": _SUM, "batch_size": BATCH}
    return TracInCPFast(network, head(network)[1], TensorDataset(*_plain(train)), [""], _as_it_is, **settings)


def _copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def _plain(pair: Pair) -> Pair:
    return pair[0].contiguous(), pair[1]


def _as_it_is(network: nn.Module, checkpoint: str) -> float:
    """captum loads a checkpoint by name and asks for its learning rate: ours is loaded already."""
    return 1.0


def one_by_one(pair: Pair) -> DataLoader[Any]:
    """Batches of one."""
    return DataLoader(TensorDataset(*_plain(pair)), 1)


def _numpy(tensor: Tensor) -> Score:
    return tensor.detach().cpu().double().numpy()


def _quiet() -> warnings.catch_warnings:
    """captum copies tensors in a way that torch warns of, once a sample."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
