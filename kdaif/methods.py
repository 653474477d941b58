"""The methods that a run can be of, told apart by how they weight the training samples.

| method | teacher | weight of a sample |
|---|---|---|
| `ce` | no | 1 |
| `kd` | yes | 1: vanilla knowledge distillation |
| `kd-aif` | yes | from its influence on the validation loss |
| `small-loss` | yes | 0 for the share with the largest losses, chosen anew before each epoch (Co-teaching's schedule) |
| `aum` | yes | 0 where the area under the margin is below that of threshold samples |
| `confident-learning` | yes | 0 off the diagonal of the confident joint of held-out probabilities |
| `l2rw` | yes | in each step, as far as it lowers the validation loss (learning to reweight) |
| `meta-weight-net` | yes | a small network's of its loss, learnt from the validation loss |
| `oracle` | yes | 1 where the label is right, 0 where it is wrong: the ceiling, only where clean labels are known |

Losses are chosen apart from methods (`distillation.loss`): DKD is `method=kd distillation.loss=dkd`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kdaif.adaptive import AdaptiveWeights, check_adaptive
from kdaif.baselines import L2RW, MetaWeightNet, SmallLoss, aum, check_meta, confident_learning
from kdaif.config import RunConfig, UserError
from kdaif.data import Dataset
from kdaif.distill import OF_NUMBERS
from kdaif.reteach import lesson
from kdaif.teacher import Lesson
from kdaif.weighting import Setting, Weighting, check_oracle, oracle, uniform


@dataclass(frozen=True)
class Method:
    """Whether a teacher is needed, what makes the weights, what must hold before anything is trained, and what the teacher is to
    learn in a second training (None: nothing else)."""

    teacher: bool
    weighting: Callable[[Setting], Weighting]
    check: Callable[[RunConfig, Dataset], None] = lambda config, dataset: None
    spreads: bool = True  # whether several processes can share its training steps
    numbers: bool = True  # whether labels may be numbers
    lesson: Callable[[Setting], Lesson | None] = lambda setting: None


METHODS: dict[str, Method] = {
    "ce": Method(teacher=False, weighting=uniform),
    "kd": Method(teacher=True, weighting=uniform),
    "kd-aif": Method(teacher=True, weighting=AdaptiveWeights, check=check_adaptive, lesson=lesson),
    "small-loss": Method(teacher=True, weighting=SmallLoss),
    "aum": Method(teacher=True, weighting=aum, numbers=False),
    "confident-learning": Method(teacher=True, weighting=confident_learning, numbers=False),
    "l2rw": Method(teacher=True, weighting=L2RW, check=check_meta, spreads=False),
    "meta-weight-net": Method(teacher=True, weighting=MetaWeightNet, check=check_meta, spreads=False),
    "oracle": Method(teacher=True, weighting=oracle, check=check_oracle),
}


def check_method(config: RunConfig, dataset: Dataset) -> None:
    """Raises `UserError` for a config whose method or loss is not for these data, before anything is trained."""
    if dataset.scale is not None:
        fitting = {
            "method": (config.method, [name for name, method in METHODS.items() if method.numbers]),
            "distillation.loss": (config.distillation.loss, OF_NUMBERS),
        }
        for field, (got, takes) in fitting.items():
            if got not in takes:
                raise UserError(
                    f"{field}: got {got!r}, which is made for classes; takes one of {', '.join(takes)} for numbers."
                )
    METHODS[config.method].check(config, dataset)
