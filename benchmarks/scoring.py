"""What it costs to score a whole training set in a pass of its own: against plain training passes, and against captum.

Both sides run in eval mode on the same network in plain memory format (captum fails on channels-last gradients).

- `pass_ratio_all`: seconds to score a set in all layers, with the standard error (8 validation folds), over a forward
  and backward pass over it. `pass_ratio_all_one_direction` without the error, `pass_ratio_last` for the last layer,
  `pass_ratio_all_channels_last` in the format in which kdaif itself trains.
- `captum_ratio`: seconds of captum.influence.TracInCP (one checkpoint, all layers, summed over the validation
  samples) over ours, the validation gradient included, on the same samples, each at the fastest of its batch sizes
  (`CAPTUMS`, `OURS`). captum takes a batch apart sample by sample, the validation samples' too, so one suits it best.
  `captum_ratio_same_batches`: both at `BATCH`. `captum_correlation`: Pearson's, of both scores.
"""

import copy
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._common import emit, interleaved, options
from kdaif.influence import SCORERS, make_probe, scope_names, validation_direction
from kdaif.influence.loop import cross_entropy
from kdaif.models import build

BARS = {"pass_ratio_all": ("<=", 1.4), "captum_ratio": (">=", 10), "captum_correlation": (">=", 0.999)}
CLASSES, BATCH, FOLDS = 10, 64, 8
OURS, CAPTUMS = (32, BATCH, 128), (1, BATCH)  # batch sizes that each is given
Pair = tuple[Tensor, Tensor]


def pictures(count: int) -> Pair:
    return torch.randn(count, 3, 32, 32), torch.randint(0, CLASSES, (count,))


def batches(data: Pair, size: int = BATCH) -> Iterable[Pair]:
    return zip(*(part.split(size) for part in data), strict=True)


def plain_pass(model: nn.Module, data: Pair) -> None:
    """Forward and backward, as training does it but for the optimiser."""
    for batch in batches(data):
        torch.autograd.grad(cross_entropy(model, batch).sum(), list(model.parameters()))


def pass_ratios(model: nn.Module, data: Pair, validation: Pair, rounds: int) -> dict[str, float]:
    """Seconds of a scoring pass over those of `plain_pass`."""
    folds = list(batches(validation, len(validation[0]) // FOLDS))
    several, last = (make_probe(model, cross_entropy, folds, scope=scope) for scope in ("all", "last"))
    one = [validation_direction(model, cross_entropy, folds, scope_names(model, "all"), dict)]

    def scored(score: Callable[[Pair], object]) -> None:
        for batch in batches(data):
            score(batch)

    jobs = {
        "plain": partial(plain_pass, model, data),
        "all": partial(scored, partial(several, model, cross_entropy)),
        "all_one_direction": partial(scored, lambda batch: SCORERS["layerwise"](model, cross_entropy, batch, one)),
        "last": partial(scored, partial(last, model, cross_entropy)),
    }
    seconds = interleaved(jobs, rounds)
    return {f"pass_ratio_{name}": taken / seconds["plain"] for name, taken in seconds.items() if name != "plain"}


def ours(model: nn.Module, train: Pair, validation: Pair, size: int) -> Tensor:
    """Influence of each training sample on the validation samples' summed loss."""
    names = scope_names(model, "all")
    direction = validation_direction(model, cross_entropy, batches(validation, size), names, dict)
    scores = [SCORERS["layerwise"](model, cross_entropy, batch, [direction])[0] for batch in batches(train, size)]
    return torch.cat(scores) * len(validation[0])


def captums(model: nn.Module, train: Pair, validation: Pair, size: int) -> Tensor:
    """The same by captum, at learning rate 1."""
    from captum.influence import TracInCP

    loss = nn.CrossEntropyLoss(reduction="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = TracInCP(model, TensorDataset(*train), [""], lambda *_: 1.0, loss_fn=loss, batch_size=size)
        return peer.influence(DataLoader(TensorDataset(*validation), size), aggregate=True)[0]


def against_captum(model: nn.Module, samples: int, rounds: int) -> dict[str, float | None]:
    """How many times faster, and whether the scores are the same."""
    if find_spec("captum") is None:
        print("captum is not installed (pip install kdaif[audit])")
        return dict.fromkeys(("captum_ratio", "captum_ratio_same_batches", "captum_correlation"))
    train, validation = pictures(samples), pictures(samples // 4)
    both = torch.stack([scores(model, train, validation, BATCH) for scores in (ours, captums)])
    jobs = {f"ours {size}": partial(ours, model, train, validation, size) for size in OURS}
    jobs |= {f"captum {size}": partial(captums, model, train, validation, size) for size in CAPTUMS}
    seconds = interleaved(jobs, rounds)
    print("".join(f"{name}: {1000 * taken / samples:.2f} ms a sample\n" for name, taken in seconds.items()))
    fastest = {who: min(t for name, t in seconds.items() if name.startswith(who)) for who in ("ours", "captum")}
    return {
        "captum_ratio": fastest["captum"] / fastest["ours"],
        "captum_ratio_same_batches": seconds[f"captum {BATCH}"] / seconds[f"ours {BATCH}"],
        "captum_correlation": float(torch.corrcoef(both.double())[0, 1]),
    }


def main() -> None:
    args = options(__doc__ or "").parse_args()
    torch.manual_seed(0)
    name, size, rounds = "resnet8", (128 if args.quick else 1024), (12 if args.quick else 20)
    model = build(name, CLASSES, 3).eval()
    data, validation = pictures(size), pictures(256)
    figures: dict[str, float | None] = {**pass_ratios(model, data, validation, rounds)}
    last_format = copy.deepcopy(model).to(memory_format=torch.channels_last)
    data, validation = ((x.contiguous(memory_format=torch.channels_last), y) for x, y in (data, validation))
    figures["pass_ratio_all_channels_last"] = pass_ratios(last_format, data, validation, rounds)["pass_ratio_all"]
    figures |= against_captum(model, 128 if args.quick else 512, 3)
    config = {"model": name, "batch": BATCH, "folds": FOLDS, "samples": size, "preconditioner": "whiten"}
    emit(figures, config, args.json, BARS)


if __name__ == "__main__":
    main()
