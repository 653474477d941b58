"""Stratified subsets and cuts: which rows go where, decided by labels and a seed alone."""

import math

import numpy as np
from jaxtyping import Int64

from kdaif.config import UserError

Rows = Int64[np.ndarray, "_"]  # labels or positions of some samples


def stratified(labels: Rows, size: int, rng: np.random.Generator) -> Rows:
    """Positions (sorted) of a random subset of exactly `size` with the classes' shares (largest remainders).

    Every class present gets at least one; `size` is at least the number of classes and at most len(labels).
    """
    classes, counts = np.unique(labels, return_counts=True)
    exact = size * counts / counts.sum()
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    for rare in np.flatnonzero(quota == 0):
        quota[quota.argmax()] -= 1
        quota[rare] = 1
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in zip(classes, quota)]
    return np.sort(np.concatenate(chosen))


def subset(labels: Rows, size: int | None, rng: np.random.Generator, field: str) -> Rows:
    """Positions of a stratified subset, all for None; raises `UserError`, naming `field`, for an impossible size."""
    fewest = len(np.unique(labels))
    if size is None:
        return np.arange(len(labels))
    if not fewest <= size <= len(labels):
        raise UserError(f"{field}: got {size}, takes {fewest} (one for each class) to {len(labels)} (all samples).")
    return stratified(labels, size, rng)


def long_tailed(labels: Rows, factor: float, rng: np.random.Generator) -> Rows:
    """Positions (sorted) of a subset whose class k of C keeps a share factor^(-k / (C - 1)) of its samples, at least one:
    the long-tailed sets of Cao et al., "Label-distribution-aware margin loss", NeurIPS 2019."""
    classes, counts = np.unique(labels, return_counts=True)
    shares = factor ** -np.linspace(0, 1, len(classes))
    kept = np.maximum(1, np.rint(counts * shares).astype(int))
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in zip(classes, kept)]
    return np.sort(np.concatenate(chosen))


def cut(
    labels: Rows, share: float, rng: np.random.Generator, field: str, classes: tuple[str, ...]
) -> tuple[Rows, Rows]:
    """Positions that stay and positions cut off, about `share` of them, stratified; each side has every class present.

    Raises `UserError`, naming `field`, where that cannot be.
    """
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise UserError(
            f"{field}: class {classes[present[counts.argmin()]]!r} has 1 sample, "
            "takes 2 or more of each class for a stratified cut."
        )
    size = math.ceil(share * len(labels) - 1e-9)  # 0.1 * 30 is a little more than 3
    if not len(present) <= size <= len(labels) - len(present):
        raise UserError(
            f"{field}: got {share:g}, which cuts {size} of {len(labels)} samples; "
            f"takes a share that leaves both sides one sample for each of {len(present)} classes."
        )
    off = stratified(labels, size, rng)
    stay = np.setdiff1d(np.arange(len(labels)), off)
    if emptied := set(present) - set(labels[stay]):
        raise UserError(f"{field}: got {share:g}, which cuts all samples of class {classes[min(emptied)]!r}.")
    return stay, off
