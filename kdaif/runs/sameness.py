"""Whether data are still what a run began with: the files that its config names, and the samples that its rows stand for.

A config says where data are and not what they are: a csv is edited, a folder gets another image, a program is started elsewhere.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from kdaif.config import RunConfig, UserError
from kdaif.paths import find_path
from kdaif.runs.run import Run, new_run

COMPARED = ("id", "hash", "label", "value")  # of a sample; where a run has recorded them


def named_files(config: RunConfig, data_root: Path | None) -> dict[str, Path]:
    """Setting -> the file or folder that it names, as it is or under `data_root`; names that are none are left out."""
    kind, _, ids = config.influence.target.partition(":")
    named = {
        "data.source": config.data.source,
        "data.edits": config.data.edits,
        "noise.file": config.noise.file,
        "teacher.checkpoint": config.teacher.checkpoint,
        "teacher.model": config.teacher.model if config.teacher.labels == "none" else None,
        "influence.target": ids if kind == "ids" else None,
    }
    found = {field: find_path(name, data_root) for field, name in named.items() if name}
    return {field: path.resolve() for field, path in found.items() if path is not None}


def stamp(path: Path) -> str:
    """A digest of the path, and of size and time of the last change of every file there; no file is opened."""
    found = sorted(_files(path)) if path.is_dir() else [(path.name, path.stat())]
    digest = hashlib.sha1(os.fsencode(path), usedforsecurity=False)
    for name, of_file in found:
        digest.update(b"%b\0%d\0%d\n" % (os.fsencode(name), of_file.st_size, of_file.st_mtime_ns))
    return digest.hexdigest()


def _files(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and facts of every file below; one call of the system each, for a page asks anew at each turn."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif entry.is_file():
            yield entry.path, entry.stat()


def stamped_run(config: RunConfig, data_root: Path | None = None) -> Run:
    """A fresh run that remembers the files it is made from."""
    files = {field: stamp(path) for field, path in named_files(config, data_root).items()}
    return new_run(config, files=files, data_root=str(data_root.absolute()) if data_root else None)


def check_same_samples(run: Run, samples: pd.DataFrame) -> None:
    """Raises `UserError` where the run has recorded other samples than these; columns as in `Run.samples`, the compared ones that
    are there."""
    if not (run.path / "samples.parquet").exists():
        return
    recorded = run.samples()
    compared = [name for name in COMPARED if name in samples]
    if len(recorded) == len(samples) and all((recorded[n].to_numpy() == samples[n].to_numpy()).all() for n in compared):
        return
    raise UserError(
        f"run: the data of {run.id} have changed since it began ({len(recorded):,} training samples then, {len(samples):,} now), "
        "so its rows stand for other samples; put the data back, or train a new run."
    )
