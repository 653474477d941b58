"""What every benchmark shares: its options, a fair way to time, and how figures are printed."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
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
    """Median seconds of each job; the jobs take turns, so that a machine whose speed drifts treats them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()  # warm
    for _ in range(rounds):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def emit(figures: Mapping[str, float | None], config: Mapping[str, Any], as_json: bool) -> None:
    """The figures as lines and, where asked for, as the JSON object that others rely on."""
    for name, value in figures.items():
        print(f"{name:32s} {'not measured' if value is None else f'{value:.4g}'}")
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
