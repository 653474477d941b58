"""Why a network says what it says of one training sample: captum attributions for the networks of a run.

An image gets a value a pixel, a text a value a token; positive speaks for the class, negative against it (saliency knows no
sign). What is needed comes from the run folder alone: weights, and inputs with their statistics or sentences with their
tokenizer, so no data set is read.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdaif import models
from kdaif.config import RunConfig, UserError, lookup
from kdaif.data.text import Pieces, Vocabulary, open_vocabulary, pieces
from kdaif.runs import Run
from kdaif.words import Word

STEPS = 50  # points on the way from the baseline, integrated gradients
AT_ONCE = 10  # of these points, of a text: a long one needs much memory
NETWORKS = ("student", "teacher")
# network, one input with a batch dimension, class -> attribution of the input's shape
Method = Callable[[nn.Module, Tensor, int], Tensor]


class Explanation(NamedTuple):
    """What one network's probability of one class rests on, in one sample."""

    network: str  # student, teacher
    method: str  # name in `METHODS`
    target: int  # class index
    probability: float  # of that class, 0..1
    values: NDArray[np.floating]  # (height, width) of an image, summed over channels; (tokens,) of a text
    residual: float  # logit's distance from the baseline's less the sum of all values; NaN: the method promises no sum
    tokens: tuple[str, ...] = ()  # of a text, one a value
    words: tuple[
        Word, ...
    ] = ()  # of a text: a word's value is the sum of its tokens'; the tokens of no word are special

    def total(self) -> float:
        """All values together; with the residual it is the logit's distance from the baseline's."""
        return float(np.sum(self.values))

    def of_words(self) -> tuple[float, ...]:
        """The value of each word."""
        return tuple(float(self.values[list(word.tokens)].sum()) for word in self.words)


class Opened(NamedTuple):
    """A network in eval mode on the CPU: a page must not take a GPU from a training."""

    model: nn.Module
    stats: models.InputStats  # of the run's training images: what they are normalised by; empty for sentences


def integrated_gradients(network: nn.Module, inputs: Tensor, target: int) -> Tensor:
    """Sundararajan et al. 2017, from the mean colour (0 after normalisation): values add up to the logit's distance."""
    from captum.attr import IntegratedGradients

    attributed: Tensor = IntegratedGradients(network).attribute(inputs, target=target, n_steps=STEPS)
    return attributed


def saliency(network: nn.Module, inputs: Tensor, target: int) -> Tensor:
    """Simonyan et al. 2014: the size of the logit's gradient, without a sign."""
    from captum.attr import Saliency

    attributed: Tensor = Saliency(network).attribute(inputs, target=target)
    return attributed


def occlusion(network: nn.Module, inputs: Tensor, target: int) -> Tensor:
    """Zeiler & Fergus 2014: how far the logit falls when a patch (a quarter of the side) takes the mean colour."""
    from captum.attr import Occlusion

    channels, *sides = inputs.shape[1:]
    window, stride = patch(sides)
    settings = {"sliding_window_shapes": (channels, *window), "strides": (channels, *stride)}
    attributed: Tensor = Occlusion(network).attribute(inputs, target=target, perturbations_per_eval=16, **settings)
    return attributed


def patch(sides: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and stride of the occluding patch."""
    window = tuple(max(1, side // 4) for side in sides)
    return window, tuple(max(1, side // 2) for side in window)


def token_gradients(network: models.TextClassifier, sample: Pieces, target: int) -> tuple[Tensor, Tensor]:
    """Integrated gradients on the token embeddings, from the sentence in which every word is padding: one value a token.

    Special tokens stand in both, so they get exactly 0. With it the token ids of that empty sentence: (1, 2, length).
    """
    from captum.attr import LayerIntegratedGradients

    empty = sample.inputs.clone()
    empty[0, 0, [token for word in sample.words for token in word.tokens]] = network.pad
    captum = LayerIntegratedGradients(network, network.embeddings)
    settings = {"target": target, "n_steps": STEPS, "internal_batch_size": AT_ONCE}
    values: Tensor = captum.attribute(sample.inputs, baselines=empty, **settings)
    return values[0].sum(-1), empty


METHODS: dict[str, Method] = {
    "integrated-gradients": integrated_gradients,
    "saliency": saliency,
    "occlusion": occlusion,
}


def explain(run: Run, row: int, network: str, method: str, target: int) -> Explanation:
    """Attribution of the class `target` in training sample `row` by the run's student or teacher.

    Raises `UserError` for an unknown name, row or class, and for a run that keeps no inputs or not that network.
    """
    attribute = lookup(METHODS, method, "explain.method")
    samples = run.samples()
    for field, number, count in (("row", row, len(samples)), ("target", target, len(run.classes()))):
        if not 0 <= number < count:
            raise UserError(f"explain.{field}: got {number}, takes 0 to {count - 1}.")
    pixels, texts = run.inputs(), [text for text in samples.loc[row, ["text", "text_pair"]] if isinstance(text, str)]
    if pixels is None and not texts:
        raise UserError(f"explain: run {run.id} keeps no inputs, takes a run on images or sentences.")
    opened = open_network(run, network)
    if pixels is None:
        return _explain_text(run, texts, network, opened.model, method, target)
    inputs = normalised(np.asarray(pixels[row : row + 1]), opened.stats).requires_grad_()
    values = attribute(opened.model, inputs, target).detach()
    with torch.no_grad():
        logits = opened.model(torch.cat([inputs, torch.zeros_like(inputs)]))
    distance = float(logits[0, target] - logits[1, target])
    residual = distance - float(values.sum()) if method == "integrated-gradients" else math.nan
    probability = float(logits[0].softmax(0)[target])
    return Explanation(network, method, target, probability, values[0].sum(0).numpy(), residual)


def _explain_text(run: Run, texts: list[str], network: str, model: nn.Module, method: str, target: int) -> Explanation:
    assert isinstance(model, models.TextClassifier)
    if method != "integrated-gradients":
        raise UserError(f"explain.method: got {method!r}, takes integrated-gradients for sentences.")
    sample = pieces(texts, open_run_vocabulary(run), run.config().data.max_tokens)
    values, empty = token_gradients(model, sample, target)
    with torch.no_grad():
        logits = model(torch.cat([sample.inputs, empty]))
    distance = float(logits[0, target] - logits[1, target])
    probability, plain = float(logits[0].softmax(0)[target]), values.detach().numpy()
    residual = distance - float(plain.sum())
    return Explanation(network, method, target, probability, plain, residual, sample.names, sample.words)


def open_network(run: Run, name: str) -> Opened:
    """The run's `student` (its best so far, while it trains) or `teacher`; `UserError` where it is not kept."""
    if name not in NETWORKS:
        raise UserError(f"explain.network: got {name!r}, takes one of {', '.join(NETWORKS)}.")
    config = run.config()
    student = _build(run, config.student.model, "student.model")
    kept = [run.student_path, run.checkpoint_dir / "best.safetensors"]
    path = next((file for file in kept if file.is_file()), None)
    if path is None:
        raise UserError(f"explain: run {run.id} has saved no student yet, takes a run with a finished epoch.")
    stats = models.load_checkpoint(student, path, "student")
    if stats is None:
        if not isinstance(student, models.TextClassifier):
            raise UserError(f"explain: {path} does not say how its inputs were normalised.")
        stats = models.InputStats((), ())
    model = student if name == "student" else _teacher(run, config, stats)
    return Opened(model.eval(), stats)


def normalised(pixels: NDArray[np.uint8], stats: models.InputStats) -> Tensor:
    """Images (n, h, w, c) as the networks take them: (n, c, h, w), (pixels / 255 - mean) / std."""
    mean, std = (torch.tensor([*figures])[:, None, None] for figures in stats)
    return (torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255 - mean).div(std).contiguous()


def _teacher(run: Run, config: RunConfig, stats: models.InputStats) -> nn.Module:
    path = run.provenance().get("teacher")
    if path is None:
        raise UserError(f"explain: run {run.id} of method {config.method} has no teacher.")
    teacher = _build(run, config.teacher.model, "teacher.model")
    own = models.load_checkpoint(teacher, Path(path))
    return teacher if own is None else models.Normalised(teacher, stats, own)


def _build(run: Run, name: str, field: str) -> nn.Module:
    classes, inputs = len(run.classes()), run.inputs()
    if inputs is not None:
        return models.build(name, classes, inputs.shape[-1], field)
    if name in models.MODELS:
        return models.build(name, classes, 3, field)
    found = open_run_vocabulary(run)
    known = models.Vocabulary(found.source, found.tokenizer.get_vocab(), found.pad)
    return models.build_text(name, classes, known, field)


def open_run_vocabulary(run: Run) -> Vocabulary:
    """What made the run's token ids."""
    return open_vocabulary(run.config().data.tokenizer, run.tokenizer_path)
