"""How single samples stand to each other in the eyes of a run's student: read from what `kdaif.neighbours` measured.

The influence of training sample i on validation sample j is (g_i . G^-1 g_j)(a_i . A^-1 a_j): loss gradients in the logits and
inputs of the last layer (see `influence.probes.HeadProbe`). So a few numbers a sample give all pairs, without torch.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdaif.runs import Run

Floats = NDArray[np.float32]


class Relations(NamedTuple):
    """Rows of the last layer, by sample."""

    features: Floats  # (train, d): the layer's inputs, 1 appended for the bias
    gradients: Floats  # (train, classes): of the tempered loss on the given label, in the logits
    held_features: Floats  # (validation, d): preconditioned
    held_plain: Floats  # (validation, d): as they are
    held_gradients: Floats  # (validation, classes): of the loss on the label in use, preconditioned
    held_labels: NDArray[
        Any
    ]  # (validation,): in use, by default the teacher's: class indices, or numbers in their units
    held_ids: NDArray[np.str_]  # (validation,)
    held_words: NDArray[np.str_]  # (validation,): the sentence, or where the source holds the image
    held_inputs: str  # where the cache folder keeps the validation images; "": there are none

    def on_validation(self, row: int) -> Floats:
        """Influence of a training sample on each validation sample, nats per unit step; positive = helpful."""
        aligned = self.held_gradients @ self.gradients[row]
        return np.asarray(aligned * (self.held_features @ self.features[row]))

    def likeness(self, row: int) -> Floats:
        """Cosine of the training samples' features with this one's, -1..1; its own is -inf: nobody asks for it."""
        plain = self.features[:, :-1]
        lengths = np.linalg.norm(plain, axis=1)
        cosine = plain @ plain[row] / np.maximum(lengths * lengths[row], np.finfo(np.float32).tiny)
        cosine[row] = -np.inf
        return np.asarray(cosine)


def read_relations(run: Run) -> Relations | None:
    """What was measured of this run; None before."""
    found: dict[str, Any] | None = run.read_derived("relations")
    return None if found is None else Relations(**{**found, "held_inputs": str(found["held_inputs"])})


def strongest(values: Floats, count: int, lowest: bool) -> NDArray[np.intp]:
    """Positions of the `count` lowest (or highest) values, the strongest first."""
    signed = values if lowest else -values
    some = np.argpartition(signed, min(count, len(signed) - 1))[:count]
    return some[np.argsort(signed[some], kind="stable")]
