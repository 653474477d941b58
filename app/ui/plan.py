"""The plan of a sweep: what the form of the Experiments page says, as a config and its grid. No widgets."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdaif.config import RunConfig, UserError, load_config, presets
from kdaif.jobs.grid import SweepRecord, cells, numbers
from kdaif.paths import find_path, is_hub_id

NOISE_KINDS: Mapping[str, str] = {
    "symmetric": "Symmetric: any other class",
    "pair": "Pair: the next class",
    "instance": "Instance: what looks alike",
    "input": "Input: damaged images or sentences",
    "matrix": "Class matrix: from a file",
    "column": "Column of human labels",
}
# how much is wrong is theirs to say; a column is named in `more`, or comes with a cloned run
OWN_RATE = ("matrix", "column")
DAMAGES: Mapping[str, str] = {
    "gaussian": "Noise in images",
    "blur": "Blurred images",
    "occlusion": "Covered images",
    "drop": "Left-out words",
}
# the names of kdaif.data.sources, which brings in torch
GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli")
SOURCES = ("digits", "cifar10", "cifar100", "svhn", *(f"glue/{task}" for task in GLUE), "reviews")
FIRST = "digits"  # the preset that the form opens with


@dataclass(frozen=True)
class Plan:
    """One sweep, not yet queued."""

    config: RunConfig
    methods: list[str]
    noise: list[float]
    seeds: list[int]
    data_root: Path | None

    def cells(self) -> list[RunConfig]:
        """The config of every run; `UserError` for what does not fit."""
        return cells(self.config, **self.grid())

    def grid(self) -> dict[str, Any]:
        return {"methods": self.methods, "noise": self.noise, "seeds": self.seeds}


def plan_of(values: Mapping[str, Any]) -> Plan:
    """The plan in the form's values (see `form_values`); `UserError`, in one sentence, for the first thing wrong."""
    sets = {
        "data.source": values["source"],
        "noise.kind": values["kind"],
        "noise.rate": 0,
        "noise.corruption": values["corruption"],
        "noise.matrix": values["matrix"],
        "student.model": values["student"],
        "teacher.model": values["teacher"],
        "student.optim.epochs": values["epochs"],
        "teacher.optim.epochs": values["teacher_epochs"],
    }
    base = load_config(values["base"]).teacher
    if values["teacher"] != base.model and not base.trained:  # what the base has instead of training is its own model's
        sets |= {"teacher.checkpoint": None, "teacher.labels": "given"}
    more = [line.strip() for line in values["more"].splitlines() if line.strip()]
    config = load_config(values["base"], [*(f"{key}={json.dumps(value)}" for key, value in sets.items()), *more])
    if not values["methods"]:
        raise UserError("Methods: none is chosen, takes one or more.")
    root = Path(values["root"].strip()).expanduser() if values["root"].strip() else None
    if root is not None and not root.is_dir():
        raise UserError(f"Folder of data sets: got {str(root)!r}, takes a folder that exists.")
    _check_source(config.data.source, root)
    plan = Plan(
        config,
        list(values["methods"]),
        [0.0] if config.noise.kind in OWN_RATE else numbers("Rates", values["rates"], float),
        numbers("Seeds", values["seeds"], int),
        root,
    )
    plan.cells()
    return plan


def _check_source(source: str, root: Path | None) -> None:
    """`UserError` for what can be none: no name, no path that exists, no hub id."""
    if not (source in SOURCES or is_hub_id(source) or find_path(source, root)):
        raise UserError(
            f"data.source: got {source!r}, takes one of {', '.join(SOURCES)}, a folder or file that exists, "
            "or a Hugging Face hub id owner/name."
        )


def preset_values(name: str) -> dict[str, Any]:
    """The form for a shipped preset: vanilla KD, KD-AIF and the oracle, clean and at 40 % noise."""
    values = form_values(load_config(name))
    return values | {"methods": ["kd", "kd-aif", "oracle"], "rates": "0, 0.4", "seeds": "0, 1, 2"}


def form_values(config: RunConfig, data_root: str | None = None) -> dict[str, Any]:
    """The form filled with one run."""
    noise = config.noise
    return {
        "base": config.model_dump(mode="json"),
        "source": config.data.source,
        "kind": noise.kind if noise.kind in NOISE_KINDS else "symmetric",
        "rates": f"{noise.rate:g}",
        "corruption": noise.corruption,
        "matrix": noise.matrix,
        "seeds": str(config.seed),
        "methods": [config.method],
        "student": config.student.model,
        "teacher": config.teacher.model,
        "epochs": config.student.optim.epochs,
        "teacher_epochs": config.teacher.optim.epochs,
        "root": data_root or "",
        "more": "",
    }


def sweep_values(record: SweepRecord, data_root: str | None = None) -> dict[str, Any]:
    """The form filled with a queued sweep."""
    return form_values(load_config(record.config), data_root) | {
        "methods": list(record.methods),
        "rates": ", ".join(f"{rate:g}" for rate in record.noise),
        "seeds": ", ".join(map(str, record.seeds)),
    }


def read_matrix(name: str, content: bytes) -> tuple[tuple[float, ...], ...]:
    """A class matrix from a csv: a row of P(given | true) for every true class, with or without the classes' names around it.

    Raises `UserError`, which calls the file `name`, for anything but a square of numbers whose rows sum to 1.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig")), skipinitialspace=True) if any(row)]
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"Class matrix: {name} is no csv file, takes a row of numbers for each true class.") from None
    if rows and not _is_number(rows[0][0]) and len(rows) + 1 != len(rows[0]):
        rows = rows[1:]  # names above the columns
    if rows and all(len(row) == len(rows) + 1 for row in rows):
        rows = [row[1:] for row in rows]  # names beside the rows
    for entry in (entry for row in rows for entry in row if not _is_number(entry)):
        raise UserError(f"Class matrix: {name} holds {entry!r}, takes numbers.")
    matrix = tuple(tuple(map(float, row)) for row in rows)
    if len(matrix) < 2 or any(len(row) != len(matrix) for row in matrix):
        sizes = " or ".join(map(str, sorted({len(row) for row in matrix})))
        raise UserError(
            f"Class matrix: {name} has {len(matrix)} rows of {sizes or 0} numbers, takes as many as there are classes, both ways."
        )
    for place, row in enumerate(matrix):
        if min(row) < 0:
            raise UserError(f"Class matrix: row {place + 1} of {name} holds {min(row):g}, takes shares from 0 to 1.")
        if abs(sum(row) - 1) > 1e-3:
            raise UserError(
                f"Class matrix: row {place + 1} of {name} sums to {sum(row):.4g}, takes shares that sum to 1."
            )
    return matrix


def _is_number(entry: str) -> bool:
    try:
        return math.isfinite(float(entry))
    except ValueError:
        return False


def known_models(sizes: Mapping[str, int] | None) -> list[str]:
    """Names of networks to choose from: all, once the data were looked at, else those of the presets."""
    if sizes:
        return sorted(sizes)
    configs = [load_config(name) for name in presets()]
    return sorted({model for config in configs for model in (config.student.model, config.teacher.model)})
