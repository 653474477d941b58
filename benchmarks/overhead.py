"""What the weights cost a training step: KD-AIF, `lagged`, against vanilla KD, with the engine's own defaults.

A step is all of it: the batch drawn and augmented, the teacher's forward pass, the student's forward and backward,
the loss, the optimiser. What is not due in every step is measured apart and added by its share: a new validation
direction each `refresh_steps` steps, and the scores of all layers in one epoch out of `score_epochs`.

- `step_ratio_last`, `step_ratio_all`: seconds of a step, share of refreshes included, over those of vanilla KD; of
  the last layer, and of all layers averaged over scored and unscored epochs. `scored_step_ratio_all` is a step of a
  scored epoch.
- `memory_ratio_all`: most bytes in tensors at one time (parameters, gradients, momentum, batch, activations and all
  that is made on the way, a refresh included; not the data set), counted storage by storage; scratch inside a kernel
  is not seen.

Without ``--quick``: the other update mechanisms too (`periodic` with a scoring pass every epoch), a WRN and a
transformer pair.
"""

import weakref
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from benchmarks._common import emit, interleaved, options, print_table
from kdaif.data import Batches, Split
from kdaif.distill import LOSSES
from kdaif.influence import InfluenceWeights
from kdaif.influence.loop import cross_entropy
from kdaif.models import build

BARS = {"step_ratio_last": ("<=", 1.05), "step_ratio_all": ("<=", 1.25), "memory_ratio_all": ("<=", 1.3)}
SIZE = 50_000  # training samples, as in CIFAR
CLASSES = 10
Sample = tuple[Tensor, Tensor, Tensor]  # index, inputs, labels


# --- the pairs -------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3 * self.heads, -1)).transpose(1, 2).chunk(3, 1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    """A text classifier: token and position embeddings, blocks, the mean over the tokens."""

    def __init__(self, depth: int, width: int, vocabulary: int = 8000, length: int = 64) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, width // 32) for _ in range(depth)])
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device)[None])
        return self.fc(self.norm(self.blocks(x)).mean(1))


def images(batch: int) -> Iterator[Sample]:
    """CIFAR-sized pictures through the project's own loader, cropped and flipped."""
    ids = np.array([str(i) for i in range(4096)])
    inputs = torch.randint(0, 256, (4096, 3, 32, 32), dtype=torch.uint8)
    split = Split(inputs, torch.randint(0, CLASSES, (4096,)), None, ids, ids)
    loader = Batches(split, [0.5] * 3, [0.25] * 3, batch, shuffle=True, augment="crop-flip", device="cpu", seed=0)
    for epoch in count():
        loader.set_epoch(epoch)
        yield from ((drawn.index, drawn.inputs, drawn.labels) for drawn in loader)


def sentences(batch: int) -> Iterator[Sample]:
    """Tokens as rare as words are (Zipf: the n-th with a frequency of 1/n)."""
    ids = torch.multinomial(1 / torch.arange(1.0, 8001), 4096 * 64, replacement=True).view(4096, 64)
    labels = torch.randint(0, CLASSES, (4096,))
    while True:
        for index in torch.randperm(4096).split(batch):
            yield index, ids[index], labels[index]


class Pair(NamedTuple):
    teacher: Callable[[], nn.Module]
    student: Callable[[], nn.Module]
    data: Callable[[int], Iterator[Sample]]
    batch: int


def network(name: str) -> Callable[[], nn.Module]:
    return lambda: build(name, CLASSES, 3).to(memory_format=torch.channels_last)


PAIRS = {
    "resnet20 -> resnet8": Pair(network("resnet20"), network("resnet8"), images, 64),
    "wrn-40-2 -> wrn-16-2": Pair(network("wrn-40-2"), network("wrn-16-2"), images, 64),
    "transformer 6 -> 2": Pair(lambda: Encoder(6, 256), lambda: Encoder(2, 256), sentences, 32),
}


# --- a training run, step by step ------------------------------------------------------------------------------------


class Training:
    """Vanilla KD, or with the settings of `InfluenceWeights` weighted; `epoch` says which one the steps lie in."""

    def __init__(self, pair: Pair, epoch: int = 0, **influence: Any) -> None:
        torch.manual_seed(0)
        self.teacher, self.student = pair.teacher().eval().requires_grad_(False), pair.student()
        self.optimizer = torch.optim.SGD(self.student.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
        self.batches = pair.data(pair.batch)
        self.weights = None
        if influence:
            _, inputs, labels = next(pair.data(1024))
            self.weights = InfluenceWeights(self.student, (inputs, labels), SIZE, **influence)
            self.weights.load_state_dict(self.weights.state_dict() | {"seen": epoch * SIZE})

    def step(self) -> None:
        index, inputs, labels = next(self.batches)
        with torch.no_grad():
            taught = self.teacher(inputs)
        losses = LOSSES["kd"](self.student(inputs), taught, labels, 0.5, 4.0).total
        loss = losses.mean() if self.weights is None else self.weights(losses, index)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.weights is not None:
            self.weights.step()

    def forget(self) -> None:
        """Makes a new validation direction due, where there is one."""
        if self.weights is not None:
            self.weights.load_state_dict(self.weights.state_dict())

    def refresh(self) -> None:
        """Takes a new validation direction."""
        assert self.weights is not None
        self.forget()
        _ = self.weights.probe

    def score(self) -> None:
        """Scores a batch in a pass of its own, as `periodic` does."""
        assert self.weights is not None
        _, *batch = next(self.batches)
        self.weights.probe(self.student, cross_entropy, tuple(batch))


def step_ratios(pair: Pair, every_mechanism: bool, rounds: int) -> dict[str, float]:
    """Seconds of a step over those of vanilla KD, by mechanism and scope."""
    vanilla, last, scored = Training(pair), Training(pair, scope="last"), Training(pair, scope="all")
    unscored = Training(pair, epoch=1, scope="all")
    steps = {"vanilla": vanilla.step, "last": last.step, "scored": scored.step, "unscored": unscored.step}
    if every_mechanism:
        online = {scope: Training(pair, scope=scope, update="online") for scope in ("last", "all")}
        steps |= {f"online {scope}": training.step for scope, training in online.items()}
    seconds = interleaved(steps, rounds)
    ratio = {name: taken / seconds["vanilla"] for name, taken in seconds.items()}

    rare = {"vanilla": vanilla.step, "last": last.refresh, "all": scored.refresh}
    if every_mechanism:
        rare |= {"score last": last.score, "score all": scored.score}
    seconds = interleaved(rare, max(5, rounds // 6))
    assert scored.weights is not None
    every, refresh_steps = scored.weights.score_epochs, scored.weights.refresh_steps
    refresh = {scope: seconds[scope] / seconds["vanilla"] / refresh_steps for scope in ("last", "all")}

    with_refresh = ratio["scored"] + refresh["all"]
    ratios = {
        "step_ratio_last": ratio["last"] + refresh["last"],
        "step_ratio_all": (with_refresh + (every - 1) * ratio["unscored"]) / every,
        "scored_step_ratio_all": with_refresh,
        "refresh_share_last": refresh["last"],
        "refresh_share_all": refresh["all"],
    }
    if every_mechanism:
        for scope in ("last", "all"):
            ratios[f"step_ratio_online_{scope}"] = ratio[f"online {scope}"] + refresh[scope]
            ratios[f"step_ratio_periodic_{scope}"] = 1 + seconds[f"score {scope}"] / seconds["vanilla"]
            ratios[f"step_ratio_two_phase_{scope}"] = 2 * ratios[f"step_ratio_{scope}"]
    return ratios


# --- memory ----------------------------------------------------------------------------------------------------------


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that are made inside the block, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, made)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.alive:
            self.alive.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.now -= size


def peak_bytes(pair: Pair, **influence: Any) -> int:
    """The most that lives at one time in four steps, the first and last of which take a direction; the data are not counted."""
    training = Training(pair, **influence)
    next(training.batches)
    with Live() as live:
        live.now = sum(t.nbytes for m in (training.teacher, training.student) for t in m.state_dict().values())
        for _ in range(3):
            training.step()
        training.forget()
        training.step()
    return live.peak


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--pair", choices=list(PAIRS), help="this pair alone")
    parser.add_argument("--rounds", type=int, default=40, help="steps of each kind that the medians are taken of")
    args = parser.parse_args()
    torch.manual_seed(0)
    figures: dict[str, float] = {}
    pairs = [args.pair] if args.pair else list(PAIRS)[: 1 if args.quick else None]
    for number, name in enumerate(pairs):
        found = step_ratios(PAIRS[name], not args.quick, args.rounds)
        vanilla = peak_bytes(PAIRS[name])
        found |= {f"memory_ratio_{scope}": peak_bytes(PAIRS[name], scope=scope) / vanilla for scope in ("last", "all")}
        print_table([name, ""], [[key, f"{value:.3f}"] for key, value in found.items()])
        figures |= found if number == 0 else {f"{key} ({name})": value for key, value in found.items()}
    training = Training(PAIRS[pairs[0]], scope="all")
    assert training.weights is not None
    config = {
        "pairs": {name: {"batch": PAIRS[name].batch} for name in pairs},
        "refresh_steps": training.weights.refresh_steps,
        "score_epochs_all": training.weights.score_epochs,
    }
    emit(figures, config, args.json, BARS)


if __name__ == "__main__":
    main()
