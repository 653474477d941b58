"""Small networks, one for each layer and each way of using one, and the directions that they are scored along."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 3
BATCH_NORMS = [  # cases with BatchNorm
    "batch norm 1d",
    "batch norm 1d on sequences",
    "batch norm 2d",
    "batch norm without statistics",
    "in-place residual",
]
Batch = tuple[Tensor, Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="none")


def random_directions(model: nn.Module, count: int, names: list[str] | None = None) -> list[dict[str, Tensor]]:
    """Random directions that leave alone what autograd does: frozen parameters and padding rows."""
    directions = []
    for _ in range(count):
        v = {name: torch.randn_like(p) for name, p in model.named_parameters() if p.requires_grad}
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None and f"{name}.weight" in v:
                v[f"{name}.weight"][module.padding_idx] = 0
        directions.append({name: t.detach() for name, t in v.items() if names is None or name in names})
    return directions


def relative_error(scores: Tensor, reference: Tensor) -> float:
    """Largest difference, as a share of the largest score."""
    return float((scores - reference).abs().max() / reference.abs().max())


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def images(batch: int, channels: int, size: int) -> Batch:
    return torch.randn(batch, channels, size, size, dtype=torch.float64), torch.randint(0, CLASSES, (batch,))


def sequences(batch: int, length: int, width: int) -> Batch:
    return torch.randn(batch, length, width, dtype=torch.float64), torch.randint(0, CLASSES, (batch,))


def tokens(batch: int, length: int, vocabulary: int) -> Batch:
    return torch.randint(0, vocabulary, (batch, length)), torch.randint(0, CLASSES, (batch,))


def pooled(channels: int) -> nn.Sequential:
    """From a map or sequence of channels (axis 1) to logits."""
    return nn.Sequential(Lambda(lambda x: x.flatten(2).mean(2)), nn.Tanh(), nn.Linear(channels, CLASSES))


def averaged(width: int) -> nn.Sequential:
    """From a sequence of vectors (last axis) to logits."""
    return nn.Sequential(Lambda(lambda x: x.mean(1)), nn.Tanh(), nn.Linear(width, CLASSES))


# --- networks with something special about them ----------------------------------------------------------------------


class Tied(nn.Module):
    """One weight in three places: embedding, its transpose in a Linear, and a second Linear with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.decode = nn.Linear(4, 7, bias=False)
        self.again = nn.Linear(4, 7)
        self.decode.weight = self.again.weight = self.embed.weight
        self.head = nn.Linear(7, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids).tanh()
        return self.head((self.decode(hidden) + self.again(hidden).sin()).mean(1).tanh())


class Residual(nn.Module):
    """BatchNorm, in-place ReLU and in-place sums, as torchvision's networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.stem(x)))
        out = self.bn2(self.conv(x))
        out += x
        return self.head(self.relu(out).mean((2, 3)))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        return self.head(self.twice(self.twice(x).tanh()).tanh())


class Attention(nn.Module):
    """Softmax attention written with plain Linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """One pre-norm block over token and position embeddings; the position table is looked up once, for all samples."""

    def __init__(self, vocabulary: int = 11, length: int = 5, width: int = 8) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width, padding_idx=0)
        self.positions = nn.Embedding(length, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, 2)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1])[None])
        x = x + self.attention(self.norm1(x))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x).mean(1))


def frozen_weight() -> nn.Module:
    """A trained bias beside a frozen weight, and a trained weight beside a frozen bias."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pooled(4))
    model[0].weight.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    model[3][2].weight.requires_grad_(False)
    return model


class Case(NamedTuple):
    model: Callable[[], nn.Module]
    batch: Callable[[], Batch]


def conv(**settings: Any) -> Case:
    return Case(lambda: nn.Sequential(nn.Conv2d(4, 6, **settings), pooled(6)), lambda: images(5, 4, 9))


CASES: dict[str, Case] = {
    "linear": Case(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), lambda: _rows(6, 5)),
    "linear on sequences": Case(lambda: nn.Sequential(nn.Linear(4, 6), averaged(6)), lambda: sequences(5, 7, 4)),
    "linear on grids": Case(
        lambda: nn.Sequential(nn.Linear(9, 4), Lambda(lambda x: x.flatten(1, 2)), averaged(4)), lambda: images(4, 3, 9)
    ),
    "conv": conv(kernel_size=3),
    "conv stride, padding": conv(kernel_size=3, stride=2, padding=1),
    "conv groups": conv(kernel_size=3, groups=2, bias=False),
    "conv dilation": conv(kernel_size=3, dilation=2, padding=(2, 1)),
    "conv same": conv(kernel_size=4, padding="same"),
    "conv valid": conv(kernel_size=(3, 2), padding="valid"),
    "conv reflect": conv(kernel_size=3, padding=2, padding_mode="reflect"),
    "conv circular, stride": conv(kernel_size=3, padding=1, padding_mode="circular", stride=2),
    "depthwise": Case(lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), pooled(8)), lambda: images(5, 4, 6)),
    "conv1d": Case(
        lambda: nn.Sequential(nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), pooled(6)),
        lambda: sequences(5, 4, 9),
    ),
    "conv3d": Case(
        lambda: nn.Sequential(Lambda(lambda x: x[:, None]), nn.Conv3d(1, 4, 2), pooled(4)), lambda: images(4, 3, 5)
    ),
    "embedding": Case(lambda: nn.Sequential(nn.Embedding(9, 4), averaged(4)), lambda: tokens(6, 5, 9)),
    "embedding with padding": Case(
        lambda: nn.Sequential(nn.Embedding(4, 4, padding_idx=1), averaged(4)), lambda: tokens(6, 5, 4)
    ),
    "batch norm 1d": Case(
        lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)), lambda: _rows(6, 5)
    ),
    "batch norm 1d on sequences": Case(
        lambda: nn.Sequential(nn.Conv1d(4, 4, 2), nn.BatchNorm1d(4), pooled(4)), lambda: sequences(5, 4, 6)
    ),
    "batch norm 2d": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pooled(4)), lambda: images(5, 3, 6)
    ),
    "batch norm without statistics": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), pooled(4)),
        lambda: images(5, 3, 6),
    ),
    "layer norm": Case(lambda: nn.Sequential(nn.LayerNorm(4), averaged(4)), lambda: sequences(5, 6, 4)),
    "layer norm over two axes, no bias": Case(
        lambda: nn.Sequential(nn.LayerNorm((6, 4), bias=False), averaged(4)), lambda: sequences(5, 6, 4)
    ),
    "group norm": Case(lambda: nn.Sequential(nn.GroupNorm(2, 4), pooled(4)), lambda: images(5, 4, 4)),
    "tied weights": Case(Tied, lambda: tokens(5, 4, 7)),
    "in-place residual": Case(Residual, lambda: images(5, 3, 6)),
    "frozen": Case(frozen_weight, lambda: images(5, 3, 6)),
    "called twice": Case(CalledTwice, lambda: _rows(6, 5)),
    "transformer": Case(Transformer, lambda: tokens(6, 5, 11)),
}


def _rows(batch: int, width: int) -> Batch:
    return torch.randn(batch, width, dtype=torch.float64), torch.randint(0, CLASSES, (batch,))


ALONE = [name for name in CASES if name != "batch norm without statistics"]  # in eval mode no sample sees another


def made(name: str, seed: int = 0) -> tuple[nn.Module, Batch]:
    """The network of a case in float64, with norm layers that do something, and a batch for it."""
    torch.manual_seed(seed)
    model, batch = CASES[name].model().double(), CASES[name].batch()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
            for parameter in module.parameters(recurse=False):
                nn.init.normal_(parameter, 1.0, 0.3)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return model, batch


class Scale(nn.Module):
    """A module of the user's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale
