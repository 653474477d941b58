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

from kdaif.adaptive import AdaptiveWeights
from kdaif.weighting import Setting, Weighting, oracle, uniform


@dataclass(frozen=True)
class Method:
    """Whether a teacher is needed, and what makes the weights."""

    teacher: bool
    weighting: Callable[[Setting], Weighting]


METHODS: dict[str, Method] = {
    "ce": Method(teacher=False, weighting=uniform),
    "kd": Method(teacher=True, weighting=uniform),
    "kd-aif": Method(teacher=True, weighting=AdaptiveWeights),
    "oracle": Method(teacher=True, weighting=oracle),
}
