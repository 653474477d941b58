"""The student (or teacher) of a run as files that are opened without kdaif.

| network | opened by |
|---|---|
| of transformers, with a head for the classes | `AutoModelForSequenceClassification.from_pretrained(FOLDER)` |
| minilm: the mean over the tokens, and a head | `SentenceTransformer(FOLDER).encode(sentences)` |
| of images | `torch.export.load("FOLDER/model.pt2").module()(images)`; the classes' names are in `classes.json` |

All give logits of the run's classes in its order, or the number itself where numbers are predicted. The program for images takes
pixels in 0..1, (batch, channels, height, width) of the run's size, and normalises them by itself. kdaif reads the first two as
models: an exported student teaches another one with `teacher.labels: none`.
"""

import json
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from kdaif import models
from kdaif.config import UserError
from kdaif.data.text import Vocabulary
from kdaif.explain import NETWORKS, open_network, open_run_vocabulary
from kdaif.influence.layers import head
from kdaif.runs import Run

PROGRAM, CLASSES = "model.pt2", "classes.json"


class Exported(NamedTuple):
    """What was written, and the call that opens it."""

    folder: Path
    files: list[str]  # relative, sorted
    opened_by: str


def export(run: Run, folder: Path, network: str = "student") -> Exported:
    """Writes the run's `student` or `teacher` into a new folder, whole or not at all.

    Raises `UserError` for a folder that holds something, a run that is not done, and a network that is not kept.
    """
    folder = folder.absolute()
    if network not in NETWORKS:
        raise UserError(f"export: got network {network!r}, takes one of {', '.join(NETWORKS)}.")
    if folder == Path.cwd() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise UserError(f"export: {folder} is there already, takes a new folder.")
    if (state := run.status().state) != "done":
        raise UserError(f"export: run {run.id} is {state}, takes a run that is done.")
    opened = open_network(run, network)
    model = opened.model.requires_grad_(False)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        if isinstance(model, models.TextClassifier):
            _rescale(model, run)
            opened_by = _write_text(
                model, run.classes(), open_run_vocabulary(run), run.config().data.max_tokens, beside
            )
        else:
            opened_by = _write_program(model, opened.stats, run, beside)
        files = sorted(str(path.relative_to(beside)) for path in beside.rglob("*") if path.is_file())
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(folder, files, opened_by.replace("FOLDER", str(folder)))


def _rescale(model: models.TextClassifier, run: Run) -> None:
    """Where numbers are predicted the output is a standardised one: the head is changed to give the number itself."""
    if not run.numbers:
        return
    scale = run.provenance().get("scale")
    if scale is None:
        raise UserError(f"export: run {run.id} does not say how its numbers were standardised, takes a newer run.")
    mean, std = scale
    _, last = head(model)
    if last.bias is None:
        raise UserError(f"export: the network of run {run.id} has no bias to carry the mean of its numbers.")
    last.weight.mul_(std)
    last.bias.mul_(std).add_(mean)


def _write_text(
    model: models.TextClassifier, classes: Sequence[str], vocabulary: Vocabulary, max_tokens: int, folder: Path
) -> str:
    network: Any = model.network
    network.config.id2label = dict(enumerate(classes))
    network.config.label2id = {name: number for number, name in enumerate(classes)}
    network.config.problem_type = "regression" if len(classes) == 1 else "single_label_classification"
    vocabulary.tokenizer.model_max_length = min(max_tokens, vocabulary.tokenizer.model_max_length)
    with models.text.quietly():
        vocabulary.tokenizer.save_pretrained(folder)
        if isinstance(network, models.MeanPooled):
            network.encoder.save_pretrained(folder)
            _write_modules(network, max_tokens, folder)
            return 'SentenceTransformer("FOLDER").encode(sentences)'
        network.save_pretrained(folder)
    return 'AutoModelForSequenceClassification.from_pretrained("FOLDER")'


def _write_modules(network: models.MeanPooled, max_tokens: int, folder: Path) -> None:
    """What sentence-transformers reads beside the encoder: the mean over the tokens, then a linear layer."""
    last = network.classifier
    kinds = {"": "Transformer", "1_Pooling": "Pooling", models.text.DENSE: "Dense"}
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {"word_embedding_dimension": last.in_features, "pooling_mode_mean_tokens": True}
    sizes = {"in_features": last.in_features, "out_features": last.out_features, "bias": True}
    written = {
        "modules.json": listed,
        "sentence_bert_config.json": {"max_seq_length": max_tokens},
        "1_Pooling/config.json": pooling | {"pooling_mode_cls_token": False},
        f"{models.text.DENSE}/config.json": sizes | {"activation_function": models.text.NO_ACTIVATION},
    }
    for name, content in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2))
    weights = {f"linear.{name}": tensor.contiguous() for name, tensor in last.state_dict().items()}
    save_file(weights, folder / models.text.DENSE / "model.safetensors")


class _FromPixels(nn.Module):
    """The network with its normalisation in front."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, stats: models.InputStats) -> None:
        super().__init__()
        self.model = model
        for name, figures in zip(("mean", "std"), stats):
            self.register_buffer(name, torch.tensor([*figures])[:, None, None])

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.model((images - self.mean) / self.std)


def program(model: nn.Module, stats: models.InputStats, channels: int, height: int, width: int) -> Any:
    """The network in eval mode as a `torch.export.ExportedProgram` of pixels in 0..1, for batches of any size."""
    example = torch.rand(2, channels, height, width)
    with warnings.catch_warnings():  # of torch's own making
        warnings.simplefilter("ignore")
        batch = {"images": {0: torch.export.Dim("batch")}}
        return torch.export.export(_FromPixels(model, stats).eval(), (example,), dynamic_shapes=batch)


def _write_program(model: nn.Module, stats: models.InputStats, run: Run, folder: Path) -> str:
    inputs = run.inputs()
    assert inputs is not None
    _, height, width, channels = inputs.shape
    torch.export.save(program(model, stats, channels, height, width), folder / PROGRAM)
    (folder / CLASSES).write_text(json.dumps(list(run.classes())))
    return f'torch.export.load("FOLDER/{PROGRAM}").module()(images)'
