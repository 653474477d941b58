"""Sweeps: the grid noise rate x seed x method of one config, and the record of those that were queued."""

import re
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from kdaif.config import RunConfig, UserError, lookup, parse_config
from kdaif.jobs.tickets import submit_all
from kdaif.runs import cache_root
from kdaif.runs.files import read_json, write_json
from kdaif.runs.tables import METHODS

Number = TypeVar("Number", int, float)


class SweepRecord(BaseModel):
    """``sweeps/<id>.json`` in the cache folder: what was asked for, and the run of every cell."""

    model_config = ConfigDict(frozen=True)

    id: str
    created: float  # seconds since 1970
    config: dict[str, Any]  # as asked for, without method, rate and seed of the cells
    methods: list[str]
    noise: list[float]
    seeds: list[int]
    runs: list[str]  # ids, in the grid's order


def cells(
    config: RunConfig, *, methods: Sequence[str], noise: Sequence[float], seeds: Sequence[int]
) -> list[RunConfig]:
    """The configs of the grid, each once; runs that share a teacher stand next to each other.

    Raises `UserError` for an unknown method or a rate out of range.
    """
    for method in methods:
        lookup(METHODS, method, "--methods")
    return list(dict.fromkeys(_variant(config, *cell) for cell in product(noise, seeds, methods)))


def numbers(field: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """Numbers with commas between, shares also in percent; `UserError`, naming `field`, for anything else."""
    try:
        return [kind(re.sub(r"\s*%\s*$", "e-2", part)) for part in text.split(",")]  # no whole number is written 40e-2
    except ValueError:
        example = "0,1,2" if kind is int else "0,0.2,0.4"
        raise UserError(f"{field}: got {text!r}, takes numbers with commas between, for example {example}.") from None


def submit_sweep(
    config: RunConfig,
    *,
    methods: Sequence[str],
    noise: Sequence[float],
    seeds: Sequence[int],
    data_root: Path | None = None,
    priority: int = 0,
) -> SweepRecord:
    """Queue what is missing of the grid, detached from the caller; see `tickets.submit_all`."""
    grid = cells(config, methods=methods, noise=noise, seeds=seeds)
    runs = submit_all(grid, data_root=data_root, priority=priority)
    record = SweepRecord(
        id=f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:4]}",
        created=time.time(),
        config=config.model_dump(mode="json"),
        methods=list(methods),
        noise=list(noise),
        seeds=list(seeds),
        runs=[run.id for run in runs],
    )
    _folder().mkdir(parents=True, exist_ok=True)
    write_json(_folder() / f"{record.id}.json", record.model_dump())
    return record


def list_sweeps() -> list[SweepRecord]:
    """Queued sweeps, newest first; a damaged record is left out."""
    found = []
    for path in sorted(_folder().glob("*.json"), reverse=True):
        try:
            found.append(SweepRecord.model_validate(read_json(path)))
        except (UserError, ValidationError):
            continue
    return found


def _folder() -> Path:
    return cache_root() / "sweeps"


def _variant(config: RunConfig, rate: float, seed: int, method: str) -> RunConfig:
    tree = config.model_dump(mode="json")
    # at rate 0 the kind stays: the same code runs, and clean labels are known; labels that are given noisy take no other noise
    plain = config.noise.kind == "none" and not config.data.columns.given
    kind = "symmetric" if plain else config.noise.kind
    return parse_config(
        {**tree, "method": method, "seed": seed, "noise": {**tree["noise"], "kind": kind, "rate": rate}}
    )
