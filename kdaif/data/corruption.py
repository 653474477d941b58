"""Damaged inputs put into the data for an experiment: some images lose detail, some sentences words; every label stays.

Exactly round(rate * n) inputs, drawn without regard to class; a sentence of one word has none to lose and stays. With one seed,
the images damaged at 20 % are among those damaged at 40 %, with the same damage.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from scipy.ndimage import gaussian_filter

from kdaif.config import UserError, lookup

Images = UInt8[np.ndarray, "n channels height width"]
Texts = Shaped[np.ndarray, "n parts"]  # str
Damage = Callable[[Any, np.random.Generator], Any]  # a changed copy of images or sentences

DEVIATION = 64  # grey values of 255: between severity 3 and 4 of ImageNet-C (arXiv 1903.12261)
DROPPED = 0.3  # share of the words: three times what random deletion drops where it is to keep the sense (EDA, arXiv 1901.11196)


def gaussian(images: Images, rng: np.random.Generator) -> Images:
    """Normal noise of 64 grey values on every pixel and channel."""
    noisy = images + rng.normal(0, DEVIATION, images.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def blur(images: Images, rng: np.random.Generator) -> Images:
    """Gaussian blur of a sixteenth of the longer side, of one pixel at least."""
    width = max(1.0, max(images.shape[2:]) / 16)
    return np.rint(gaussian_filter(images.astype(np.float32), (0, 0, width, width))).clip(0, 255).astype(np.uint8)


def occlusion(images: Images, rng: np.random.Generator) -> Images:
    """A grey rectangle, half as high and wide as the image, at a random place: a quarter of it is hidden."""
    height, width = images.shape[2:]
    sides = (height + 1) // 2, (width + 1) // 2
    corners = rng.random((len(images), 2)) * (height - sides[0] + 1, width - sides[1] + 1)
    hidden = images.copy()
    for image, (top, left) in zip(hidden, corners.astype(int)):
        image[:, top : top + sides[0], left : left + sides[1]] = 128
    return hidden


def drop(texts: Texts, rng: np.random.Generator) -> Texts:
    """Three words in ten, each by chance, are left out: of every sentence one at least, but never its last."""
    return _each(texts, lambda words: _thinned(words, rng.random(len(words))))


CORRUPTIONS: Mapping[str, Damage] = {"gaussian": gaussian, "blur": blur, "occlusion": occlusion}
TEXT_CORRUPTIONS: Mapping[str, Damage] = {"drop": drop}


def damage_of(name: str, text: bool) -> Damage:
    """By its name, for images or sentences; `UserError` for one that there is not, or that is made for the other."""
    damage = lookup({**CORRUPTIONS, **TEXT_CORRUPTIONS}, name, "noise.corruption")
    ours, (here, there) = (TEXT_CORRUPTIONS, ("text", "images")) if text else (CORRUPTIONS, ("images", "text"))
    if name not in ours:
        takes = f"{', '.join(ours)} for {here}"
        raise UserError(f"noise.corruption: got {name!r}, which is made for {there}; takes {takes}.")
    return damage


def corrupt(
    inputs: Images | Texts, rate: float, damage: Damage, rng: np.random.Generator
) -> tuple[Images | Texts, Bool[np.ndarray, "n"]]:
    """A copy of the inputs with a share `rate` of them damaged, and which ones."""
    chosen = rng.permutation(len(inputs))[: round(rate * len(inputs))]
    result, corrupted = inputs.copy(order="K"), np.zeros(len(inputs), dtype=bool)
    if len(chosen):
        result[chosen] = damage(np.ascontiguousarray(inputs[chosen]), rng)
        corrupted[chosen] = (result[chosen] != inputs[chosen]).reshape(len(chosen), -1).any(axis=1)
    return result, corrupted


def without_part(texts: Texts, place: int, parts: int) -> Texts:
    """Every sentence without one of `parts` stretches of its words, all as equally long as they can be."""

    def rest(words: list[str]) -> list[str]:
        first, end = (len(words) * edge // parts for edge in (place, place + 1))
        return words[:first] + words[end:] or words

    return _each(texts, rest)


def _each(texts: Texts, change: Callable[[list[str]], list[str]]) -> Texts:
    changed = np.empty_like(texts)
    for place, text in np.ndenumerate(texts):
        words = text.split()
        left = change(words)
        changed[place] = text if left == words else " ".join(left)  # spaces alone are no damage
    return changed


def _thinned(words: list[str], draws: np.ndarray) -> list[str]:
    """The words whose draw is high; at least one falls, and one stays where the other rule would take the last."""
    stays = draws >= DROPPED
    if len(words):
        stays[draws.argmin()] = False
        stays[draws.argmax()] |= not stays.any()
    return [word for word, kept in zip(words, stays, strict=True) if kept]
