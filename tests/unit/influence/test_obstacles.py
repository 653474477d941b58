"""What the layer-wise product cannot do: the fallback is right and says why, or there is one clear error."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence.scores import (
    SCORERS,
    layerwise,
    loop,
    obstacle,
)
from tests.unit.influence.cases import (
    CLASSES,
    Batch,
    Scale,
    averaged,
    cross_entropy,
    made,
    random_directions,
    relative_error,
    sequences,
)

# --- what the layer-wise product cannot do ---------------------------------------------------------------------------


class WithMultihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = averaged(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])


class Functional(nn.Module):
    """Calls `fc` and also takes its weight; `bare` is never called at all."""

    def __init__(self, bare: bool) -> None:
        super().__init__()
        self.first, self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.bare = bare

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.mean(1)).tanh()
        return self.head(F.linear(x if self.bare else self.fc(x), self.fc.weight).tanh())


class Merged(nn.Module):
    """Folds a sequence into the batch axis before a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), averaged(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x.flatten(0, 1)).view_as(x))


class Prototypes(nn.Module):
    """Compares samples with projected prototypes: rows that are no samples, as many of them as samples by accident."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("prototypes", torch.randn(rows, 4))
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(rows, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.mean(1) @ self.fc(self.prototypes).T).tanh())


class SequenceFirst(nn.Module):
    """Works on (length, batch, width), with as many steps as samples."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), averaged(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x.transpose(0, 1)).tanh().transpose(0, 1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nn.Sequential(Scale(4), averaged(4)), "Scale '0'"),
        (WithMultihead, "MultiheadAttention 'attention'"),
        (lambda: Functional(bare=True), "do not add up"),
        (lambda: Functional(bare=False), "do not add up"),
        (Merged, "'fc' has an output of 15 rows for 5 samples"),
        (lambda: Prototypes(5), "do not add up"),
        (lambda: Prototypes(1), "shapes cannot be multiplied"),
        (SequenceFirst, "do not add up"),
    ],
    ids=[
        "custom",
        "multihead",
        "functional",
        "functional and called",
        "merged",
        "prototypes",
        "one row",
        "length first",
    ],
)
def test_fallback_is_right_and_says_why(make: Callable[[], nn.Module], said: str) -> None:
    torch.manual_seed(0)
    model = make().double()
    length = 5 if isinstance(model, SequenceFirst) else 3
    batch = sequences(5, length, 4)
    directions = random_directions(model, 2)
    with pytest.warns(UserWarning, match="layer-wise influence is not possible") as caught:
        scores = layerwise(model, cross_entropy, batch, directions)
    assert said in str(caught[0].message)
    assert relative_error(scores, loop(model, cross_entropy, batch, directions)) < 1e-10


def test_only_the_parameters_in_the_direction_must_be_in_known_layers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Scale(4), averaged(4)).double()
    batch = sequences(5, 3, 4)
    directions = random_directions(model, 2, ["1.2.weight", "1.2.bias"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = layerwise(model, cross_entropy, batch, directions)
    assert relative_error(scores, loop(model, cross_entropy, batch, directions)) < 1e-10


def test_obstacles_are_looked_for_once_for_a_model() -> None:
    model, batch = made("linear")
    calls = []

    def counting(model: nn.Module, batch: Batch) -> Tensor:
        calls.append(1)
        return cross_entropy(model, batch)

    names = list(dict(model.named_parameters()))
    assert obstacle(model, counting, batch, names) == ""
    assert obstacle(model, counting, batch, names) == ""
    assert len(calls) == 1


def test_a_model_without_any_way_gets_one_clear_error() -> None:
    torch.manual_seed(0)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))  # no layer's own weight, and no forward rule
    model = nn.Sequential(normed, averaged(4)).double()
    batch = sequences(5, 3, 4)
    directions = random_directions(model, 1)
    wanted = "Sequential cannot be scored by forward mode .*; use the scorer 'finite-difference' or 'loop'"
    with pytest.warns(UserWarning, match="ParametrizedLinear"), pytest.raises(ValueError, match=wanted) as caught:
        layerwise(model, cross_entropy, batch, directions)
    assert "\n" not in str(caught.value)
    found = SCORERS["finite-difference"](model, cross_entropy, batch, directions)
    assert relative_error(found, loop(model, cross_entropy, batch, directions)) < 1e-3
