"""The plan of a sweep: what the form of the Experiments page says, as a config and its grid. No widgets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdaif.config import RunConfig, UserError, load_config, presets
from kdaif.jobs.grid import SweepRecord, cells, numbers

# kinds that a rate belongs to; a class matrix or a column of labels comes with a cloned run or `more`
NOISE_KINDS: Mapping[str, str] = {
    "symmetric": "Symmetric: any other class",
    "pair": "Pair: the next class",
    "instance": "Instance: what looks alike",
    "input": "Input: damaged images",
    "matrix": "Class matrix of the config",
    "column": "Column of human labels",
}
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
        "student.model": values["student"],
        "teacher.model": values["teacher"],
        "student.optim.epochs": values["epochs"],
        "teacher.optim.epochs": values["teacher_epochs"],
    }
    more = [line.strip() for line in values["more"].splitlines() if line.strip()]
    config = load_config(values["base"], [*(f"{key}={json.dumps(value)}" for key, value in sets.items()), *more])
    if not values["methods"]:
        raise UserError("Methods: none is chosen, takes one or more.")
    root = Path(values["root"].strip()).expanduser() if values["root"].strip() else None
    if root is not None and not root.is_dir():
        raise UserError(f"Folder of data sets: got {str(root)!r}, takes a folder that exists.")
    plan = Plan(
        config,
        list(values["methods"]),
        numbers("Rates", values["rates"], float),
        numbers("Seeds", values["seeds"], int),
        root,
    )
    plan.cells()
    return plan


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


def known_models(sizes: Mapping[str, int] | None) -> list[str]:
    """Names of networks to choose from: all, once the data were looked at, else those of the presets."""
    if sizes:
        return sorted(sizes)
    configs = [load_config(name) for name in presets()]
    return sorted({model for config in configs for model in (config.student.model, config.teacher.model)})
