"""Are the scores what they are said to be? Against the per-sample loop in every layer, and against real retraining.

- `max_relative_error`: layer-wise scores in float32 along 3 directions, against the loop in float64; the largest difference as
  a share of the largest score, over all networks of `NETWORKS`.
- `leave_one_out_correlation`: logistic regression with 20 % flipped labels; influence with the exact Hessian against the
  change of the validation loss when a sample is left out and the model is fitted anew, for each of the samples.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._common import emit, options, print_table
from kdaif.influence import PRECONDITIONERS, SCORERS, validation_direction
from kdaif.models import build

BARS = {"max_relative_error": ("<=", 1e-5), "leave_one_out_correlation": (">=", 0.99)}
CLASSES = 10
Batch = tuple[Tensor, Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


class Pooled(nn.Module):
    """Logits from the mean over all but the batch and the features."""

    def __init__(self, features: int, axis: int) -> None:
        super().__init__()
        self.axis, self.fc = axis, nn.Linear(features, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.movedim(self.axis, -1).flatten(1, -2).mean(1).tanh())


class Tied(nn.Module):
    """The transposed embedding predicts, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.decode = nn.Embedding(40, 16), nn.Linear(16, 40)
        self.decode.weight = self.embed.weight
        self.fc = nn.Linear(40, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.decode(self.embed(ids).tanh()).mean(1).tanh())


def images(channels: int, size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(16, channels, size, size)


def sequences(length: int, width: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(16, length, width)


def tokens() -> Tensor:
    return torch.randint(0, 40, (16, 12))


def conv(**settings: object) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv2d(8, 12, **settings), Pooled(12, 1))  # type: ignore[arg-type]


# name -> (network, inputs)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "Linear": (
        lambda: nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, CLASSES)),
        lambda: torch.randn(16, 20),
    ),
    "Linear, sequence": (lambda: nn.Sequential(nn.Linear(16, 24), Pooled(24, -1)), sequences(10, 16)),
    "Conv2d": (conv(kernel_size=3), images(8, 16)),
    "Conv2d, stride": (conv(kernel_size=3, stride=2, padding=1), images(8, 16)),
    "Conv2d, groups": (conv(kernel_size=3, groups=4), images(8, 16)),
    "Conv2d, dilation": (conv(kernel_size=3, dilation=2), images(8, 16)),
    "Conv2d, padding 'same'": (conv(kernel_size=3, padding="same"), images(8, 16)),
    "Conv2d, reflect": (conv(kernel_size=3, padding=1, padding_mode="reflect"), images(8, 16)),
    "Conv1d": (lambda: nn.Sequential(nn.Conv1d(8, 12, 3, stride=2), Pooled(12, 1)), sequences(8, 20)),
    "Embedding": (lambda: nn.Sequential(nn.Embedding(40, 16, padding_idx=0), Pooled(16, -1)), tokens),
    "BatchNorm1d": (
        lambda: nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES)),
        lambda: torch.randn(16, 20),
    ),
    "BatchNorm2d": (lambda: nn.Sequential(nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), Pooled(12, 1)), images(8, 16)),
    "LayerNorm": (lambda: nn.Sequential(nn.Linear(16, 24), nn.LayerNorm(24), Pooled(24, -1)), sequences(10, 16)),
    "GroupNorm": (lambda: nn.Sequential(nn.Conv2d(8, 12, 3), nn.GroupNorm(3, 12), Pooled(12, 1)), images(8, 16)),
    "tied weights": (Tied, tokens),
    "transformer layer": (
        lambda: nn.Sequential(
            nn.Embedding(40, 16), nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 16), Pooled(16, -1)
        ),
        tokens,
    ),
    "resnet8": (lambda: build("resnet8", CLASSES, 3), images(3, 16)),
    "wrn-16-1": (lambda: build("wrn-16-1", CLASSES, 3), images(3, 16)),
}


def relative_error(name: str, seed: int) -> float:
    """Of layer-wise scores in float32 against the loop in float64, in eval mode."""
    torch.manual_seed(seed)
    make, inputs = NETWORKS[name]
    model, batch = make().eval(), (inputs(), torch.randint(0, CLASSES, (16,)))
    directions = [{key: torch.randn_like(p) for key, p in model.named_parameters()} for _ in range(3)]
    for key, module in model.named_modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            for v in directions:  # as in every gradient
                v[f"{key}.weight"][module.padding_idx] = 0
    scores = SCORERS["layerwise"](model, cross_entropy, batch, directions).double()
    exact = batch[0].double() if batch[0].is_floating_point() else batch[0], batch[1]
    wide = [{key: v.double() for key, v in direction.items()} for direction in directions]
    reference = SCORERS["loop"](model.double(), cross_entropy, exact, wide)
    return float((scores - reference).abs().max() / reference.abs().max())


class LeaveOneOut(NamedTuple):
    """Of each training sample."""

    influence: Tensor  # <H^-1 grad L_val, grad l_i>
    change: Tensor  # of the validation loss when the sample is left out
    flipped: Tensor


def leave_one_out(
    samples: int, seed: int = 0, decay: float = 0.01, share: float = 0.2, newton_steps: int = 8
) -> LeaveOneOut:
    """Two classes in 10 dimensions, softmax regression with L2, `share` of the labels flipped; every refit by Newton."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples + 200, 10, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(x), generator=generator, dtype=torch.float64)
    labels = (x @ torch.linspace(-1, 1, 10, dtype=torch.float64) + 0.3 * noise > 0).long()
    flipped = torch.rand(samples, generator=generator) < share
    given = torch.where(flipped, 1 - labels[:samples], labels[:samples])
    train, validation = (x[:samples], given), (x[samples:], labels[samples:])
    model = nn.Linear(10, 2).double()

    def objective(parameters: Tensor, kept: Tensor) -> Tensor:
        logits = F.linear(train[0], parameters[:20].view(2, 10), parameters[20:])
        losses = F.cross_entropy(logits, train[1], reduction="none")
        return (kept * losses).sum() / samples + decay / 2 * parameters.square().sum()

    slope = torch.func.grad(objective)
    curvature = torch.func.jacrev(slope)

    def fit(kept: Tensor, parameters: Tensor) -> Tensor:
        for _ in range(newton_steps):
            parameters = parameters - torch.linalg.solve(curvature(parameters, kept), slope(parameters, kept))
        return parameters

    def validation_loss(parameters: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(validation[0], parameters[:20].view(2, 10), parameters[20:]), validation[1])

    fitted = fit(torch.ones(samples, dtype=torch.float64), torch.zeros(22, dtype=torch.float64))
    refitted = torch.func.vmap(fit, (0, None))(1 - torch.eye(samples, dtype=torch.float64), fitted)
    change = torch.func.vmap(validation_loss)(refitted) - validation_loss(fitted)

    nn.utils.vector_to_parameters(fitted, model.parameters())
    names = ["weight", "bias"]

    def with_decay(model: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(model, batch) + decay / 2 * sum(p.square().sum() for p in model.parameters())

    inverse = PRECONDITIONERS["exact"](model, with_decay, [train], names, 0.0)
    direction = validation_direction(model, cross_entropy, [validation], names, inverse)
    influence = SCORERS["layerwise"](model, cross_entropy, train, [direction])[0]
    return LeaveOneOut(influence, change, flipped)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's."""
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def main() -> None:
    args = options(__doc__ or "").parse_args()
    seeds = range(1 if args.quick else 5)
    errors = {name: max(relative_error(name, seed) for seed in seeds) for name in NETWORKS}
    samples = 150 if args.quick else 400
    retrained = leave_one_out(samples)
    print_table(["network", "relative error"], [[name, f"{error:.1e}"] for name, error in errors.items()])
    figures = {
        "max_relative_error": max(errors.values()),
        "leave_one_out_correlation": correlation(retrained.influence, retrained.change),
    }
    config = {
        "networks": len(NETWORKS),
        "seeds": len(seeds),
        "batch": 16,
        "leave_one_out_samples": samples,
        "flipped": 0.2,
    }
    emit(figures, config, args.json, BARS)


if __name__ == "__main__":
    main()
