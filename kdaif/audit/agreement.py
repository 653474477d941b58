"""How well summed scores foretell what retraining does, with standard errors; numpy alone.

The linear datamodelling score (LDS; Park et al., "TRAK", ICML 2023, section 2): retrain on many random subsets; for a validation
sample, Spearman's correlation over the subsets between the summed scores of a subset and minus the loss after training on it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

Predicted = Float[np.ndarray, "validation subsets"]  # summed scores of each subset, positive = helpful
Losses = Float[np.ndarray, "validation subsets"]  # after training on each subset


def lds(predicted: Predicted, losses: Losses) -> float:
    """Mean LDS over the validation samples: -1..1, chance 0."""
    return float((_ranks(predicted) * _ranks(-losses)).sum(-1).mean())


def lds_of_mean(predicted: Predicted, losses: Losses) -> float:
    """LDS of the mean validation loss, which is what a score of a whole validation set stands for."""
    return float((_ranks(predicted.mean(0)) * _ranks(-losses.mean(0))).sum())


def summed(scores: Float[np.ndarray, "validation train"], members: Bool[np.ndarray, "subsets train"]) -> Predicted:
    """What the scores say of each subset."""
    return scores @ members.T.astype(scores.dtype)


def with_errors(predictions: Mapping[str, Predicted], losses: Losses) -> dict[str, dict[str, float | None]]:
    """For each score `lds` and `mean_loss_lds`, each with its standard error (`_error`) and its lead over the plain gradient
    product of the same scope (`_over_identity`, None where there is none) with the standard error of that.

    The standard errors are jackknife's: subsets, and validation samples, are left out one at a time; the two variances are
    added, for both are samples. A lead's is of the paired difference.
    """
    lines: dict[str, dict[str, float | None]] = {name: {} for name in predictions}
    for key, statistic in (("lds", lds), ("mean_loss_lds", lds_of_mean)):
        values = {name: statistic(predicted, losses) for name, predicted in predictions.items()}
        replicates = {name: _replicates(statistic, predicted, losses) for name, predicted in predictions.items()}
        for name, line in lines.items():
            identity = f"{name.split('_')[0]}_identity"
            compared = identity in values and identity != name
            lead = [one - other for one, other in zip(replicates[name], replicates[identity])] if compared else []
            line[key] = values[name]
            line[f"{key}_error"] = _error(replicates[name])
            line[f"{key}_over_identity"] = values[name] - values[identity] if compared else None
            line[f"{key}_over_identity_error"] = _error(lead) if compared else None
    return lines


def _replicates(
    statistic: Callable[[Predicted, Losses], float], predicted: Predicted, losses: Losses
) -> list[Float[np.ndarray, "_"]]:
    """The statistic without each validation sample, and without each subset."""
    return [
        np.array(
            [
                statistic(np.delete(predicted, one, axis), np.delete(losses, one, axis))
                for one in range(losses.shape[axis])
            ]
        )
        for axis in (0, 1)
    ]


def _error(replicates: Sequence[Float[np.ndarray, "_"]]) -> float:
    return float(sum((len(part) - 1) * part.var() for part in replicates) ** 0.5)


def _ranks(values: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows n"]:
    """Ranks along the last axis as unit vectors around zero: a product of two is their correlation. A constant row is all 0."""
    ranks = rankdata(values, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    return ranks / np.maximum(np.linalg.norm(ranks, axis=-1, keepdims=True), 1e-12)
