"""The real dashboard, started as a user starts it, and a headless Chromium to look at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[2]
STREAMLIT = Path(sys.executable).with_name("streamlit")
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def dashboard(cache: Path) -> Iterator[str]:
    """`streamlit run app/main.py` from the repository root with the runs in `cache`; yields its address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [str(STREAMLIT), "run", "app/main.py", f"--server.port={port}", "--server.headless=true"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = cache / "server.log"
    cache.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        server = subprocess.Popen(
            command, cwd=ROOT, env={**environment, "KDAIF_CACHE": str(cache)}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://localhost:{port}"
        _wait(f"{address}/_stcore/health", server, log)
        yield address
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGS)
        try:
            yield opened
        finally:
            opened.close()


def _wait(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text(errors='replace')}")
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"no answer from {address}: {log.read_text(errors='replace')}")
