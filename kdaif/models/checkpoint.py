"""Weights on disk: safetensors, or a torch state dict read without running any code it may hold."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kdaif.config import UserError
from kdaif.models.inputs import IMAGENET, InputStats

# published files that do not say how their inputs were normalised, by the start of their sha256:
# resnet20, 32, 44 and 56 of akamaster/pytorch_resnet_cifar10
PUBLISHED = dict.fromkeys(("12fca82f", "d509ac18", "014dd654", "4bfd9763"), IMAGENET)


def save_checkpoint(model: nn.Module, path: Path, stats: InputStats | None = None) -> None:
    """Writes the model's weights as safetensors, whole or not at all, with the input statistics it was trained with.

    Tied weights are written once, under their first name.
    """
    ties = _ties(model)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if ties[name] == name}
    # one key: safetensors writes several in random order, and equal weights should be equal files
    metadata = {} if stats is None else {"inputs": json.dumps({"mean": [*stats.mean], "std": [*stats.std]})}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(save(weights, metadata))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(model: nn.Module, path: Path, field: str = "teacher.checkpoint") -> InputStats | None:
    """Loads the weights of a `.safetensors` file or a torch state dict into the model, all of them or none.

    A state dict may lie under the key "state_dict" or "model" and carry DataParallel's prefix "module.". Of weights that the
    model ties, one name is enough.
    Returns the input statistics that the weights were trained with, where the file or `PUBLISHED` says so, else None.
    Raises `UserError`, which names `field`, for a file that is missing, is no plain weights, or does not fit the model.
    """
    if not path.is_file():
        raise UserError(f"{field}: got {path}, which is no file, takes a .safetensors file or a torch state dict.")
    try:
        weights, stats = _read_safetensors(path) if path.suffix == ".safetensors" else _read_state_dict(path)
    except Exception:  # damaged bytes can raise anything in either reader
        raise UserError(
            f"{field}: {path} holds no plain weights, takes a .safetensors file or a torch state dict "
            "(a whole pickled model is refused, for it could run code)."
        ) from None
    ties = _ties(model)
    known = {ties[name]: tensor for name, tensor in weights.items() if name in ties}
    weights = {name: known[first] for name, first in ties.items() if first in known} | weights
    if misfit := _misfit(model, weights, ties):
        raise UserError(f"{field}: {path} does not fit the model: {misfit}.")
    model.load_state_dict(weights, strict=False)
    return stats


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], InputStats | None]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    return weights, InputStats(**json.loads(metadata["inputs"])) if "inputs" in metadata else None


def _read_state_dict(path: Path) -> tuple[dict[str, Tensor], InputStats | None]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    content = content.get("state_dict", content.get("model", content))
    if not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise TypeError("not a mapping from names to tensors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}, PUBLISHED.get(digest[:8])


def _ties(model: nn.Module) -> dict[str, str]:
    """The first name of each weight by all its names: tied weights are one tensor under several."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}


def _misfit(model: nn.Module, weights: dict[str, Tensor], ties: dict[str, str]) -> str:
    """What keeps the weights from loading into the model, in words; empty when they fit."""
    # the batch counter is unused under a fixed momentum, and older checkpoints lack it
    own, got = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
        for tensors in (model.state_dict(), weights)
    )
    missing = [name for name in own if name not in got]
    unknown = [name for name in got if name not in own]
    wrong = [name for name in own if name in got and own[name] != got[name]]
    if missing or unknown:
        verb, names = ("lacks", missing) if missing else ("also holds", unknown)
        return f"it {verb} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    pairs = [(name, weights[name], weights[ties[name]]) for name in got]
    apart = [name for name, one, other in pairs if one is not other and not torch.equal(one, other)]
    if apart and not wrong:
        return f"it holds {ties[apart[0]]} and {apart[0]} apart, which the model ties"
    head = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    if wrong and all(name.rpartition(".")[0] == head and own[name][1:] == got[name][1:] for name in wrong):
        return f"it has {got[wrong[0]][0]} classes, the data {own[wrong[0]][0]}"
    return f"{wrong[0]} is of shape {got[wrong[0]]}, takes {own[wrong[0]]}" if wrong else ""
