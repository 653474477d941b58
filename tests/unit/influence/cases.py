"""Small networks, one for each kind of layer, with a batch that fits: (model, batch), float64, seeded."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 3
Case = tuple[nn.Module, tuple[Tensor, Tensor]]


def criterion(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def images(layer: nn.Module, size: int = 7, channels: int = 4, batch: int = 5) -> Case:
    """The layer between two convolutions."""
    model = nn.Sequential(nn.Conv2d(2, channels, 3), nn.Tanh(), layer, nn.Flatten(), nn.LazyLinear(CLASSES)).double()
    x = torch.randn(batch, 2, size, size, dtype=torch.float64)
    model(x)
    return model, (x, torch.randint(0, CLASSES, (batch,)))


class Last(nn.Module):
    """Mean over the sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def tokens(*layers: nn.Module, width: int = 6, batch: int = 4) -> Case:
    model = nn.Sequential(nn.Embedding(11, width, padding_idx=0), *layers, Last(), nn.Linear(width, CLASSES)).double()
    return model, (torch.randint(0, 11, (batch, 5)), torch.randint(0, CLASSES, (batch,)))


class Positions(nn.Module):
    """Adds position embeddings of batch size 1, as BERT does."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.places = nn.Embedding(5, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.places(torch.arange(5)[None])


class Tied(nn.Module):
    """One weight as embedding and as output layer; a second layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 4)
        self.middle = nn.Linear(4, 4)
        self.out = nn.Linear(4, CLASSES)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.middle(self.middle(self.embedding(x)).tanh()).mean(1))


def tied() -> Case:
    return Tied().double(), (torch.randint(0, CLASSES, (4, 5)), torch.randint(0, CLASSES, (4,)))


class Residual(nn.Module):
    """An in-place ReLU after BatchNorm, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x


def frozen() -> Case:
    model, batch = images(nn.Conv2d(4, 4, 3))
    model[2].weight.requires_grad_(False)  # type: ignore[union-attr]
    return model, batch


CASES: dict[str, Callable[[], Case]] = {
    "linear": lambda: (nn.Linear(4, CLASSES).double(), (torch.randn(5, 4).double(), torch.randint(0, CLASSES, (5,)))),
    "linear on sequences": lambda: tokens(nn.Linear(6, 6), nn.Tanh()),
    "conv1d": lambda: tokens(nn.Conv1d(5, 5, 3, padding=1, stride=1, groups=5)),
    "conv stride": lambda: images(nn.Conv2d(4, 6, 3, stride=2, padding=1)),
    "conv groups": lambda: images(nn.Conv2d(4, 8, 3, groups=2, bias=False)),
    "conv depthwise": lambda: images(nn.Conv2d(4, 4, 3, groups=4)),
    "conv dilation": lambda: images(nn.Conv2d(4, 4, 2, dilation=2)),
    "conv same": lambda: images(nn.Conv2d(4, 4, 3, padding="same")),
    "conv reflect": lambda: images(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "batch norm": lambda: images(nn.BatchNorm2d(4)),
    "batch norm without statistics": lambda: images(nn.BatchNorm2d(4, track_running_stats=False)),
    "group norm": lambda: images(nn.GroupNorm(2, 4)),
    "layer norm": lambda: tokens(nn.LayerNorm(6)),
    "residual in place": lambda: images(Residual()),
    "position embeddings": lambda: tokens(Positions()),
    "tied weights": tied,
    "frozen weight": frozen,
}


def make(name: str, seed: int = 0) -> Case:
    torch.manual_seed(seed)
    model, batch = CASES[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model, batch


def direction(model: nn.Module) -> dict[str, Tensor]:
    """Random, but zero where autograd gives no gradient: at an embedding's padding."""
    v = {name: torch.randn_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            v[f"{name}.weight"][module.padding_idx] = 0
    return v
