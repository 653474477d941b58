"""The SAFE card of a run: how accurate, robust, explainable and fair its student is, and what it costs. Measured once, noted
with the run (`Run.read_notes("card")`), read without torch.

Rank graduation figures are of `kdaif.metrics.safe`, of the student's class probabilities on test samples. Images are damaged and
partly covered; sentences lose words by chance, and a third of their words at a time.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdaif.audit.checkpoint import Case, draw, open_case, open_network
from kdaif.data import Split
from kdaif.data.corruption import CORRUPTIONS, TEXT_CORRUPTIONS, Damage, without_part
from kdaif.data.text import tokenised
from kdaif.evaluate import judge, predict
from kdaif.metrics.safe import rga, rga_one_vs_rest, rge, rgf, rgr, top_class
from kdaif.runs import Run

NOTE = "card"
SAMPLES = 2000  # test samples, drawn at random, that are looked at under perturbation
GRID = 3  # an image is covered in 3 x 3 parts, one after the other; a sentence loses one of 3
TIMED = 100  # inputs a timing
ROUNDS = 5  # timings, of which the median counts
Say = Callable[[float, str], object]  # share done 0..1, what is being done


def measure_card(run: Run, data_root: Path | None = None, say: Say = lambda share, what: None) -> dict[str, Any]:
    """Figures of a finished run, by part; raises `UserError` as `audit.open_case` does."""
    say(0.0, "reading the data")
    case = open_case(run, data_root)
    student, test = open_network(case, "student").eval(), case.dataset.test
    chosen = np.sort(draw(7).permutation(len(test))[:SAMPLES])
    sample = test.subset(torch.from_numpy(chosen))
    plain = _probabilities(case, student, sample)
    labels, numbers = sample.labels.numpy(), case.dataset.scale is not None
    found: dict[str, Any] = {
        "samples": len(sample),
        "rga": rga(labels, plain[:, 0]) if numbers else rga_one_vs_rest(labels, plain).macro,
        "robustness": {},
        "parts": [],
    }
    text = test.texts is not None
    found["input"] = "sentence" if text else "image"
    perturbed = {}
    for place, (name, damage) in enumerate((TEXT_CORRUPTIONS if text else CORRUPTIONS).items()):
        say(0.2 + 0.1 * place, f"damaging the inputs: {name}")
        perturbed[name] = said = _probabilities(case, student, damaged(case, sample, damage))
        top = top_class(plain, said)
        found["robustness"][name] = {
            "rgr": rgr(plain, said).macro,
            "top": top.rgr,
            "stays": top.agreement,
            "accuracy": judge(torch.from_numpy(said), sample.labels).accuracy,
        }
    parts = GRID if text else GRID**2
    for place in range(parts):
        say(0.5 + 0.4 * place / parts, "covering parts of the inputs")
        found["parts"].append(rge(plain, _probabilities(case, student, covered(case, sample, place))).macro)
    each = zip(case.dataset.classes, judge(torch.from_numpy(plain), sample.labels).class_accuracy, strict=True)
    by_class = {name: accuracy for name, accuracy in each if accuracy == accuracy}
    found["fairness"] = {} if numbers else {"accuracy_gap": max(by_class.values()) - min(by_class.values())}
    if not numbers:
        fair = rgf(plain, next(iter(perturbed.values())), labels, lambda a, b: rgr(a, b).macro)
        found["fairness"]["robustness_gap"] = fair.gap
    found["by_class"] = by_class
    say(0.9, "timing the networks")
    found["milliseconds"] = {name: milliseconds(case, open_network(case, name)) for name in ("student", "teacher")}
    found["device"] = str(case.device)
    run.write_notes(NOTE, found)
    return found


def damaged(case: Case, split: Split, damage: Damage) -> Split:
    """The samples, all of them damaged."""
    if split.texts is not None:
        return _reworded(case, split, damage(split.texts, draw(8)))
    return replace(split, inputs=torch.from_numpy(damage(np.ascontiguousarray(split.inputs.numpy()), draw(8))))


def covered(case: Case, split: Split, place: int) -> Split:
    """Images with one of the GRID x GRID parts in the mean colour of the training data; sentences without a third."""
    if split.texts is not None:
        return _reworded(case, split, without_part(split.texts, place, GRID))
    height, width = split.inputs.shape[2:]
    row, column = divmod(place, GRID)
    rows = slice(height * row // GRID, height * (row + 1) // GRID)
    columns = slice(width * column // GRID, width * (column + 1) // GRID)
    inputs = split.inputs.clone()
    inputs[:, :, rows, columns] = (255 * torch.tensor(case.dataset.mean)).round().to(torch.uint8)[:, None, None]
    return replace(split, inputs=inputs)


def milliseconds(case: Case, network: nn.Module) -> float:
    """Median time for one input, in batches of `TIMED`, on the run's device."""
    inputs, _ = case.pair(case.dataset.test.subset(torch.arange(min(TIMED, len(case.dataset.test)))))
    times = []
    with torch.inference_mode():
        network.eval()(inputs)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            network(inputs)[0, 0].item()  # waits for a GPU
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times) / len(inputs)


def _reworded(case: Case, split: Split, texts: np.ndarray) -> Split:
    assert case.dataset.vocabulary is not None
    sentences = tokenised([texts], case.dataset.vocabulary, case.config.data.max_tokens)
    return replace(split, inputs=sentences.tokens[0], texts=texts)


def _probabilities(case: Case, network: nn.Module, split: Split) -> np.ndarray:
    """Of the classes; where labels are numbers what the network says."""
    outputs = predict(network, case.batches(split))
    return np.asarray((outputs.softmax(1) if case.dataset.scale is None else outputs).cpu().numpy())
