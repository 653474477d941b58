"""Named sets of a run's samples, kept with the run: slices that people save, and the marks that say what to do.

One small Parquet file a set: `row` (index in training order) and `label` (the class name to be given, "" for none).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from kdaif.config import UserError
from kdaif.runs.files import read_table, write_table
from kdaif.runs.run import Run

MARKED = "Marked"  # the set that retraining acts on: an empty label leaves the sample out, another one replaces its own
LONGEST = 60  # characters of a name
_NAME = b"kdaif.name"


def list_slices(run: Run) -> list[str]:
    """Names of the saved sets, in alphabetical order; a damaged one is left out."""
    names = []
    for path in _folder(run).glob("*.parquet"):
        try:
            names.append((read_table(path, "slice", []).schema.metadata or {})[_NAME].decode())
        except (UserError, KeyError):
            continue
    return sorted(names)


def read_slice(run: Run, name: str) -> pd.DataFrame:
    """Columns row, label; empty for a name that was never saved."""
    path = _path(run, name)
    if not path.exists():
        return pd.DataFrame({"row": np.empty(0, np.int64), "label": np.empty(0, object)})
    return read_table(path, f"slice {name!r}").to_pandas()


def write_slice(run: Run, name: str, rows: Sequence[int] | np.ndarray, labels: Sequence[str] | None = None) -> None:
    """Save a set under a name, in place of the old one; an empty set is deleted. `UserError` for an unusable name."""
    name = name.strip()
    if not 0 < len(name) <= LONGEST:
        raise UserError(f"slice: got the name {name[:80]!r}, takes 1 to {LONGEST} characters.")
    if len(rows) == 0:
        delete_slice(run, name)
        return
    labels = [""] * len(rows) if labels is None else list(labels)
    schema = pa.schema([("row", pa.int64()), ("label", pa.string())], metadata={_NAME: name.encode()})
    _folder(run).mkdir(exist_ok=True)
    write_table(_path(run, name), pa.table([pa.array(np.asarray(rows)), pa.array(labels)], schema=schema))


def delete_slice(run: Run, name: str) -> None:
    """Forget a set; nothing happens where there is none."""
    _path(run, name).unlink(missing_ok=True)


def _folder(run: Run) -> Path:
    return run.path / "slices"


def _path(run: Run, name: str) -> Path:
    """Names are people's words: the file is called by their digest."""
    return _folder(run) / f"{hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:12]}.parquet"
