"""Networks by name, and their weights on disk.

Every network is a plain `nn.Module` from images (batch, channels, height, width), of any size its halvings allow, or from token
ids (batch, 2, length; see text.py) to logits (batch, classes), and makes the logits in its last `nn.Linear`: there the
influence engine reads the last layer's scores.
To add one, put its constructor into its family's registry (or a new family's into `MODELS`).
"""

from collections.abc import Callable

from torch import nn

from kdaif.config import lookup
from kdaif.models.checkpoint import load_checkpoint, save_checkpoint
from kdaif.models.digits import DIGITS
from kdaif.models.inputs import IMAGENET, InputStats, Normalised
from kdaif.models.mobile import MOBILE
from kdaif.models.resnet import RESNETS
from kdaif.models.text import MeanPooled, TextClassifier, Vocabulary, build_text, hidden_layers, hidden_width
from kdaif.models.vgg import VGGS
from kdaif.models.wrn import WRNS

__all__ = [
    "IMAGENET",
    "MODELS",
    "InputStats",
    "MeanPooled",
    "Normalised",
    "TextClassifier",
    "Vocabulary",
    "build",
    "build_text",
    "hidden_layers",
    "hidden_width",
    "load_checkpoint",
    "parameter_count",
    "save_checkpoint",
]

# name -> constructor(num_classes, channels of the input)
MODELS: dict[str, Callable[[int, int], nn.Module]] = {**DIGITS, **RESNETS, **WRNS, **VGGS, **MOBILE}


def build(name: str, num_classes: int, channels: int, field: str = "student.model") -> nn.Module:
    """The network of that name with fresh weights (torch's global seed decides them); `UserError` names `field` if unknown."""
    return lookup(MODELS, name, field)(num_classes, channels)


def parameter_count(model: nn.Module) -> int:
    """How many numbers the optimiser can change."""
    return sum(parameter.numel() for parameter in model.parameters())
