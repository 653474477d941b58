"""The methods that a run can be of, told apart by how they weight the training samples.

| method | teacher | weight of a sample |
|---|---|---|
| `ce` | no | 1 |
| `kd` | yes | 1: vanilla knowledge distillation |
| `kd-aif` | yes | from its influence on the validation loss |
| `oracle` | yes | 1 where the label is right, 0 where it is wrong: the ceiling, only where clean labels are known |
"""

from collections.abc import Callable
from dataclasses import dataclass

from kdaif.adaptive import AdaptiveWeights, check_adaptive
from kdaif.config import RunConfig
from kdaif.data import Dataset
from kdaif.weighting import Setting, Weighting, check_oracle, oracle, uniform


@dataclass(frozen=True)
class Method:
    """Whether a teacher is needed, what makes the weights, and what must hold before anything is trained."""

    teacher: bool
    weighting: Callable[[Setting], Weighting]
    check: Callable[[RunConfig, Dataset], None] = lambda config, dataset: None


METHODS: dict[str, Method] = {
    "ce": Method(teacher=False, weighting=uniform),
    "kd": Method(teacher=True, weighting=uniform),
    "kd-aif": Method(teacher=True, weighting=AdaptiveWeights, check=check_adaptive),
    "oracle": Method(teacher=True, weighting=oracle, check=check_oracle),
}
