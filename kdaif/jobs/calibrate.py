"""A short calibration: each method for two epochs, so that `estimate` knows how long one takes on this machine."""

import sys
from collections.abc import Sequence
from pathlib import Path

from kdaif.config import RunConfig
from kdaif.jobs.detached import find_job, launch, same_program
from kdaif.runs import cache_root
from kdaif.runs.files import write_json

NAME = "calibration"


def start_calibration(config: RunConfig, methods: Sequence[str], rate: float, data_root: Path | None) -> None:
    """Train them one after the other, detached, in a cache folder of their own: they are no results."""
    folder().mkdir(parents=True, exist_ok=True)
    path = folder() / "config.json"
    write_json(path, config.model_dump(mode="json"))
    command = [sys.executable, "-m", "kdaif", "sweep", str(path), "--methods", ",".join(methods), "--noise", f"{rate}"]
    command += ["--set", "student.optim.epochs=2", "--set", "teacher.optim.epochs=1"]
    command += ["--data-root", str(data_root)] if data_root else []
    launch(NAME, command, same_program() | {"KDAIF_CACHE": str(folder())})


def calibrating() -> bool:
    job = find_job(NAME)
    return job is not None and job.alive()


def folder() -> Path:
    return cache_root() / "calibration"
