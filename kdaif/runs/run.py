"""`Run`: one run folder, read and written; `new_run`, `open_run`, `list_runs` find it."""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from kdaif.config import RunConfig, UserError, parse_config
from kdaif.outside import cache_root
from kdaif.runs.arrays import open_inputs, read_arrays, trajectories, write_arrays
from kdaif.runs.files import (
    EPOCH_FIELDS,
    METRIC_FIELDS,
    SAMPLE_FIELDS,
    SCHEMA_VERSION,
    TIMING_FIELDS,
    Fields,
    build_table,
    read_json,
    read_table,
    write_atomic,
    write_json,
    write_table,
)
from kdaif.runs.status import CANCEL_FLAG, Status, change_status, create_status, read_status

_PACKAGES = ("kdaif", "torch", "torchvision", "numpy", "datasets")


class Taken(UserError):
    """Somebody else has the run in hand."""


@dataclass(frozen=True)
class Run:
    """A run folder. Readers raise `UserError`, in one sentence, for what is missing or damaged."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def checkpoint_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def student_path(self) -> Path:
        return self.path / "student.safetensors"

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer that was learnt from the run's sentences; there is no such file where none was."""
        return self.path / "tokenizer.json"

    @property
    def log_path(self) -> Path:
        return self.path / "train.log"

    # reading

    def config(self) -> RunConfig:
        return _parse_config(self.path, self._manifest())

    def provenance(self) -> dict[str, Any]:
        """Where the run comes from: created, git revision, versions, and what `add_provenance` put beside them."""
        return self._manifest()["provenance"]

    def status(self) -> Status:
        """Where the run stands now; `interrupted` if it says running but its process is gone."""
        return read_status(self.path / "status.json")

    def samples(self) -> pd.DataFrame:
        """One row a training sample, in training order; columns as in `files.SAMPLE_FIELDS`."""
        samples = self._samples().to_pandas()
        for name, (kind, _) in SAMPLE_FIELDS.items():
            if name not in samples:  # a run of an older version
                samples[name] = np.nan if pa.types.is_floating(kind) else None
        return samples.astype({"flipped": "boolean", "corrupted": "boolean"})

    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by class index."""
        return tuple(json.loads(self._samples([]).schema.metadata[b"kdaif.classes"]))

    @property
    def numbers(self) -> bool:
        """Whether labels are numbers (a regression): their column is then the only class."""
        return len(self.classes()) == 1

    def label_words(self, labels: pd.Series | np.ndarray) -> np.ndarray:
        """Class numbers or numbers for people; "" for -1 and NaN."""
        labels = np.asarray(labels)
        if self.numbers:
            return np.array(["" if value != value else f"{value:.4g}" for value in labels], dtype=object)
        return np.array([*self.classes(), ""], dtype=object)[labels]  # index -1, unknown, is the last

    def epochs(self) -> list[int]:
        """Numbers of the recorded epochs, ascending; 1 is the first."""
        return sorted(int(file.name[6:11]) for file in (self.path / "epochs").glob("epoch=?????.parquet"))

    def epoch(self, number: int | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One recorded epoch (None: the last), row i = training sample i; see `files.EPOCH_FIELDS` for the columns.

        What a run did not measure is NaN (predictions: -1).
        """
        recorded = self.epochs()
        if not recorded:
            raise UserError(f"run: {self.id} has recorded no epoch yet.")
        number = recorded[-1] if number is None else number
        if number not in recorded:
            raise UserError(f"epoch: got {number}, run {self.id} has recorded {recorded[0]} to {recorded[-1]}.")
        return read_table(self._epoch_path(number), f"epoch {number}", columns).to_pandas()

    def metrics(self) -> pd.DataFrame:
        """One row an epoch: losses, accuracies (shares), learning rate, seconds, overhead; empty before the first."""
        metrics = _figures(self.path / "metrics.parquet", METRIC_FIELDS).to_pandas()
        return metrics.merge(_figures(self.path / "timings.parquet", TIMING_FIELDS).to_pandas(), on="epoch", how="left")

    def trajectories(self, field: str, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """One field of some samples (None: of all) over all recorded epochs: float32 (epochs, rows)."""
        if field not in EPOCH_FIELDS:
            raise UserError(f"field: got {field!r}, takes one of {', '.join(EPOCH_FIELDS)}.")
        recorded = self.epochs()
        if not recorded:
            return np.empty((0, 0 if rows is None else len(rows)), np.float32)
        return trajectories(field, [self._epoch_path(n) for n in recorded], self.path / "trajectories", rows)

    def inputs(self) -> np.ndarray | None:
        """The training inputs, memory-mapped, uint8 (n, h, w, c); None where the run names none (text)."""
        relative = self.provenance().get("inputs")
        return open_inputs(self.path.parent.parent / relative) if relative else None

    def read_derived(self, name: str) -> dict[str, np.ndarray] | None:
        """Arrays that were measured after the training and kept under this name; None where there are none."""
        return read_arrays(self._derived_path(name))

    def read_notes(self, name: str) -> dict[str, Any] | None:
        """What was noted after the training under this name; None where nothing was."""
        path = self._notes_path(name)
        return read_json(path) if path.exists() else None

    def result(self) -> dict[str, Any] | None:
        """What `train` printed at its end; None before that."""
        path = self.path / "result.json"
        return read_json(path) if path.exists() else None

    # writing: for whoever holds the run

    @contextmanager
    def hold(self, seconds: float = 2.0) -> Iterator[None]:
        """Be the only one that trains or changes the run; the kernel frees it when this process dies.

        Raises `Taken` where somebody else holds it for longer than `seconds`.
        """
        lock = FileLock(self.path / ".lock", timeout=seconds)
        try:
            lock.acquire()
        except Timeout:
            raise Taken(f"run: {self.id} is in the hands of another process, takes one that nobody trains.") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def cancel_asked(self) -> bool:
        return (self.path / CANCEL_FLAG).exists()

    def ask_cancel(self) -> float:
        """Ask whoever trains the run to stop, now or later; returns when that was first asked, in seconds since 1970."""
        flag = self.path / CANCEL_FLAG
        flag.open("ab").close()
        return flag.stat().st_mtime

    def withdraw_cancel(self) -> None:
        (self.path / CANCEL_FLAG).unlink(missing_ok=True)

    def add_provenance(self, **facts: Any) -> None:
        manifest = self._manifest()
        write_json(self.path / "config.json", {**manifest, "provenance": {**manifest["provenance"], **facts}})

    def write_samples(self, samples: pd.DataFrame, classes: Sequence[str]) -> None:
        """The training samples in training order; columns as in `files.SAMPLE_FIELDS`."""
        table = build_table(samples, SAMPLE_FIELDS, {"kdaif.classes": json.dumps(list(classes))})
        write_table(self.path / "samples.parquet", table)

    def write_tokenizer(self, text: str) -> None:
        write_atomic(self.tokenizer_path, lambda file: file.write(text.encode()))

    def write_epoch(self, number: int, values: Mapping[str, Any] | pd.DataFrame) -> None:
        """Record an epoch (1 = first): arrays of one value a training sample, columns out of `files.EPOCH_FIELDS`."""
        table = build_table(values, EPOCH_FIELDS)
        expected = pq.read_metadata(self.path / "samples.parquet").num_rows
        if table.num_rows != expected:
            raise ValueError(f"epoch {number} has {table.num_rows} rows, the run has {expected} training samples")
        write_table(self._epoch_path(number), table)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add an epoch's figures, in place of rows of this and later epochs; other keys than the known are floats.

        `seconds` and `overhead` go to a file of their own, so that metrics.parquet is the same for the same seed.
        """
        timing = {name: row[name] for name in TIMING_FIELDS if name in row}
        metric = {name: value for name, value in row.items() if name not in ("seconds", "overhead")}
        _append(self.path / "timings.parquet", timing, TIMING_FIELDS)
        _append(self.path / "metrics.parquet", metric, METRIC_FIELDS)

    def write_status(self, **changes: Any) -> None:
        """Change fields of the status and beat the heart (cheap); state="running" records this process."""
        change_status(self.path / "status.json", **changes)

    def write_derived(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Keep arrays that can be measured anew at any time; a folder that cannot be written to goes without."""
        with contextlib.suppress(OSError):
            write_arrays(self._derived_path(name), arrays)

    def write_notes(self, name: str, tree: Mapping[str, Any]) -> None:
        """Note something beside the run, in place of what stood there."""
        self._notes_path(name).parent.mkdir(exist_ok=True)
        write_json(self._notes_path(name), tree)

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_json(self.path / "result.json", result)

    def _manifest(self) -> dict[str, Any]:
        return _read_manifest(self.path)

    def _samples(self, columns: Sequence[str] | None = None) -> pa.Table:
        return read_table(self.path / "samples.parquet", "samples are", columns)

    def _derived_path(self, name: str) -> Path:
        return self.path / "derived" / f"{name}.npz"

    def _notes_path(self, name: str) -> Path:
        return self.path / "notes" / f"{name}.json"

    def _epoch_path(self, number: int) -> Path:
        return self.path / "epochs" / f"epoch={number:05d}.parquet"


@dataclass(frozen=True)
class RunSummary:
    """A line of the list of runs; a folder that cannot be read has an `error` and nothing else."""

    id: str
    path: Path
    config: RunConfig | None = None
    status: Status | None = None
    result: dict[str, Any] | None = None
    error: str = ""

    def by_this_program(self) -> bool:
        """Whether the version of kdaif that made the run is the one that runs now (its git revision too, in a checkout)."""
        made = Run(self.path).provenance()
        return made["git_revision"] == _git_revision() and made["versions"].get("kdaif") == _version("kdaif")


def runs_root(root: Path | None = None) -> Path:
    """The folder of run folders: the argument, else `runs` in the cache folder."""
    return Path(root) if root is not None else cache_root() / "runs"


def new_run(config: RunConfig, root: Path | None = None, **facts: Any) -> Run:
    """A fresh run folder, state queued, under a generated id, facts in its provenance; it appears whole and replaces none."""
    root = runs_root(root)
    words = f"{_word(config.method)}-{_word(Path(config.data.source).name.lower())}"
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{words}-s{config.seed}-{uuid4().hex[:4]}"
    draft = root / f".{run_id}"
    for folder in ("epochs", "checkpoints"):
        (draft / folder).mkdir(parents=True)
    manifest = {"schema": SCHEMA_VERSION, "config": config.model_dump(mode="json"), "provenance": _provenance() | facts}
    write_json(draft / "config.json", manifest)
    create_status(draft / "status.json", config.student.optim.epochs)
    try:
        draft.rename(root / run_id)  # fails where that folder exists
    except OSError:
        shutil.rmtree(draft)
        raise
    return Run(root / run_id)


def open_run(run: str | Path, root: Path | None = None) -> Run:
    """The run of that id, or in that folder (anything with a path separator); `UserError` if it is not a sound run."""
    root = runs_root(root)
    path = Path(run) if isinstance(run, Path) or os.sep in run else root / run
    if not path.is_dir() or path.name.startswith("."):
        known = [summary.id for summary in list_runs(root)][:3]
        hint = f"the newest there are {', '.join(known)}" if known else "there are none yet"
        raise UserError(f"run: got {str(run)!r}, takes the id of a run in {root}; {hint}.")
    opened = Run(path.absolute())
    opened.config()
    opened.status()
    return opened


def list_runs(root: Path | None = None) -> list[RunSummary]:
    """All runs, newest first; a folder that is no sound run is listed with its error."""
    root = runs_root(root)
    if not root.is_dir():
        return []
    folders = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    return [_summary(Run(folder)) for folder in sorted(folders, key=lambda folder: folder.name, reverse=True)]


def _summary(run: Run) -> RunSummary:
    try:
        summary = RunSummary(run.id, run.path, run.config(), run.status(), run.result())
        _check_recorded(run, summary.status)
    except UserError as error:
        return RunSummary(run.id, run.path, error=str(error))
    return summary


def _check_recorded(run: Run, status: Status | None) -> None:
    """Raises `UserError` for a run that says it has recorded epochs, and holds none, or not the samples they are of."""
    if status is None or status.epoch == 0:
        return
    if not (run.path / "samples.parquet").is_file():
        raise UserError(f"run: {run.path} is half a run: its samples.parquet is missing.")
    if not any((run.path / "epochs").glob("epoch=?????.parquet")):
        raise UserError(f"run: {run.path} is half a run: its epochs are missing.")


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path / "config.json")
    if not {"schema", "config", "provenance"} <= manifest.keys():
        raise UserError(f"run: {path / 'config.json'} was not written by kdaif.")
    if manifest["schema"] != SCHEMA_VERSION:
        raise UserError(f"run: {path} has schema {manifest['schema']!r}, this kdaif reads {SCHEMA_VERSION}.")
    return manifest


def _parse_config(path: Path, manifest: Mapping[str, Any]) -> RunConfig:
    try:
        return parse_config(manifest["config"], unknown="ignore")
    except UserError as error:
        raise UserError(f"run: {path / 'config.json'} is not a valid config: {error}") from None


def _figures(path: Path, fields: Fields) -> pa.Table:
    """The table of one row an epoch, empty before the first."""
    return read_table(path, "metrics are") if path.exists() else build_table({"epoch": []}, fields)


def _append(path: Path, row: Mapping[str, Any], fields: Fields) -> None:
    rows = [old for old in _figures(path, fields).to_pylist() if old["epoch"] < row["epoch"]] + [dict(row)]
    extra = {name: (pa.float64(), "") for name in sorted(set().union(*rows) - fields.keys())}
    fields = {**fields, **extra}
    write_table(path, build_table({name: [line.get(name) for line in rows] for name in fields}, fields))


def _word(text: str) -> str:
    """Safe in a file name, whatever a config says."""
    return "".join(c if c.isalnum() else "-" for c in text)[:24]


def _provenance() -> dict[str, Any]:
    versions = {name: version for name in _PACKAGES if (version := _version(name))}
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _git_revision() -> str | None:
    """Revision of the source that runs, if it runs from a git checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
