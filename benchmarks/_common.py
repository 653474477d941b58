"""What every benchmark shares: its options, a fair way to time, and how figures are printed."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def options(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="end within a minute on 2 cores")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--data-root", type=Path, help="folder of data sets")
    return parser


def interleaved(jobs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each job; the jobs take turns, so that a machine whose speed drifts treats them alike.

    On one thread (OMP_NUM_THREADS=1) they are seconds of the processor, which other programs on the machine hardly touch.
    """
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if alone else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()  # warm
    for _ in range(rounds):
        for name, job in jobs.items():
            began = clock()
            job()
            seconds[name].append(clock() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns, the first to the left, and an empty line."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells]))
    print()


def emit(
    figures: Mapping[str, float | None],
    config: Mapping[str, Any],
    as_json: bool,
    bars: Mapping[str, tuple[str, float]] | None = None,
) -> None:
    """The figures as lines, with their bars (("<=", 1.25)), and, where asked for, as the JSON object that others rely on."""
    for name, value in figures.items():
        sign, bar = (bars or {}).get(name, ("", 0.0))
        verdict = ""
        if sign and value is not None:
            holds = value <= bar if sign == "<=" else value >= bar
            verdict = f"  {sign} {bar:g}{'' if holds else '  MISSED'}"
        print(f"{name:32s} {'not measured' if value is None else f'{value:.4g}'}{verdict}")
    if as_json:
        print(json.dumps({"figures": dict(figures), "machine": machine(), "config": dict(config)}))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "system": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device,
    }
