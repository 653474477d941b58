"""Arrays beside the tables: the inputs shared by all runs on the same data, and trajectories over epochs.

Both are memory-mapped, so a page reads the few rows it shows. Trajectories are derived: they are rebuilt from the
epoch files when these changed, and may be deleted at any time.
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kdaif.config import UserError
from kdaif.runs.files import read_table, write_atomic


def save_inputs(inputs: np.ndarray, cache: Path) -> str:
    """Keep the inputs (uint8, n h w c) once in the cache folder; returns the file's path relative to that folder.

    The name is a digest of the content, so all runs on the same samples share one file.
    """
    if inputs.dtype != np.uint8 or inputs.ndim != 4:
        raise ValueError(f"inputs must be uint8 of shape (n, h, w, c), got {inputs.dtype} {inputs.shape}")
    inputs = np.ascontiguousarray(inputs)
    digest = hashlib.sha1(str(inputs.shape).encode() + inputs.data, usedforsecurity=False).hexdigest()[:16]
    relative = Path("inputs") / digest / "inputs.npy"
    path = cache / relative
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: np.save(file, inputs, allow_pickle=False))
    return relative.as_posix()


def open_inputs(path: Path) -> np.ndarray:
    """The inputs, memory-mapped: uint8 (n, h, w, c); raises `UserError` where the file is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"run: the inputs {path} cannot be read ({' '.join(str(error).split())}).") from None


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Several arrays in one file (.npz), whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, lambda file: np.savez(file, **arrays), sync=False)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What `write_arrays` kept; None where it is missing or damaged, for it can be made anew."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def trajectories(
    field: str, epochs: Sequence[Path], cache: Path, rows: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Values of one field over the epoch files, float32 (epochs, rows); of all rows where None are named."""
    matrix = _matrix(field, epochs, cache)
    return np.array(matrix if rows is None else matrix[:, rows])


def _matrix(field: str, epochs: Sequence[Path], cache: Path) -> np.ndarray:
    """All values of a field (epochs, samples): the cached matrix, with only what changed since read anew."""
    stamps = np.array([path.stat().st_mtime_ns for path in epochs])
    path = cache / f"{field}.npy"
    old_stamps, old = _load(path)
    shared = min(len(stamps), len(old_stamps))
    changed = np.flatnonzero(stamps[:shared] != old_stamps[:shared])
    kept = int(changed[0]) if len(changed) else shared
    if kept == len(stamps) == len(old_stamps):
        return old

    samples = old.shape[1] if kept else read_table(epochs[0], field, []).num_rows
    matrix = np.empty((len(epochs), samples), np.float32)
    if kept:
        matrix[:kept] = old[:kept]

    def read(epoch: int) -> None:
        matrix[epoch] = read_table(epochs[epoch], field, [field]).column(0).to_numpy()

    with ThreadPoolExecutor() as pool:  # most of the time is spent in unpacking, which several cores share
        list(pool.map(read, range(kept, len(epochs))))
    _store(path, stamps, matrix)
    return matrix


def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Time stamps of the epoch files and the matrix made from them; both are empty where there is no sound cache."""
    try:
        with open(path, "rb") as file:
            stamps = np.load(file, allow_pickle=False)
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            return stamps, np.memmap(path, dtype, "r", file.tell(), shape)
    except (OSError, ValueError, EOFError):
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)


def _store(path: Path, stamps: np.ndarray, matrix: np.ndarray) -> None:
    def both(file: object) -> None:
        np.save(file, stamps, allow_pickle=False)  # type: ignore[arg-type]
        np.save(file, matrix, allow_pickle=False)  # type: ignore[arg-type]

    try:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, both, sync=False)
    except OSError:
        pass  # somebody else's read-only run: it is only slower
