"""A run on disk: plain files, readable while they are written, by anybody and without torch.

``data_cache/runs/<run id>/`` holds ``config.json``, ``status.json``, ``samples.parquet``,
``epochs/epoch=00012.parquet``, ``metrics.parquet``, ``timings.parquet``, ``result.json``, ``student.safetensors``,
``checkpoints/``, ``train.log``; what people add, ``slices/`` and ``notes/``; and ``trajectories/`` and ``derived/``, which are
safe to delete. No other package knows these names.
"""

from kdaif.runs.arrays import save_inputs
from kdaif.runs.run import Run, RunSummary, Taken, cache_root, list_runs, new_run, open_run, runs_root
from kdaif.runs.status import LIVE, STATES, Status

__all__ = [
    "LIVE",
    "STATES",
    "Run",
    "RunSummary",
    "Status",
    "Taken",
    "cache_root",
    "list_runs",
    "new_run",
    "open_run",
    "runs_root",
    "save_inputs",
]
