"""What is read by the dashboard and by quick commands must not wait for torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.factories import digits_run

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "accelerate", "datasets", "sklearn", "streamlit", "plotly", "captum")
LIGHT = ("kdaif", "kdaif.config", "kdaif.runs", "kdaif.metrics.detection", "kdaif.metrics.ranking", "kdaif.report",
         "kdaif.jobs", "kdaif.cli")  # fmt: skip


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_light_modules_bring_in_no_torch():
    code = """
import importlib, json, sys
heavy = sys.argv[1].split()
blame = {}
for name in sys.argv[2:]:
    importlib.import_module(name)
    for module in set(heavy) & set(sys.modules) - set(blame):
        blame[module] = name
print(json.dumps(blame))
"""
    assert json.loads(python(code, " ".join(HEAVY), *LIGHT)) == {}


def test_the_package_loads_its_names_when_they_are_used():
    code = """
import sys
import kdaif
assert "torch" not in sys.modules
from kdaif import RunConfig, load_config
assert "torch" not in sys.modules
from kdaif import InfluenceWeights
assert "torch" in sys.modules
assert not {"kdaif.data", "kdaif.runs"} & set(sys.modules)
print(RunConfig.__module__, InfluenceWeights.__module__)
try:
    kdaif.nothing
except AttributeError as error:
    print(error)
"""
    assert python(code).splitlines() == [
        "kdaif.config kdaif.influence.loop",
        "module 'kdaif' has no attribute 'nothing'",
    ]


def test_commands_that_only_read_bring_in_no_torch():
    code = """
import runpy, sys
run = sys.argv[1]
for arguments in (["runs"], ["samples", run, "--harmful", "3"], ["detect", run], ["--help"]):
    sys.argv[1:] = arguments
    try:
        runpy.run_module("kdaif", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(arguments[0], end.code, "torch" in sys.modules)
"""
    lines = python(code, str(digits_run("kd-aif").path)).splitlines()
    assert [line for line in lines if line.endswith("0 False")] == [
        f"{command} 0 False" for command in ("runs", "samples", "detect", "--help")
    ]


def test_reading_runs_is_quick_to_import():
    """CPU seconds from the start of the interpreter: others may use the machine meanwhile."""
    code = "import time, kdaif.runs; print(time.process_time())"
    assert float(python(code)) < 1.5
