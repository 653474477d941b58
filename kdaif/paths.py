"""What a setting names: a file or folder, or something on the Hugging Face hub."""

from pathlib import Path

ENDINGS = (".parquet", ".csv", ".json", ".jsonl")  # of files that are tables


def find_path(path: str, data_root: Path | None) -> Path | None:
    """That file or folder, else the one under `data_root`; None where neither exists, and for no name."""
    if not path:
        return None
    found = [_home(path), *([data_root / path] if data_root else [])]
    return next((candidate for candidate in found if _exists(candidate)), None)


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~somebody who is not
        return Path(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a name can be; a zero byte
        return False


def is_hub_id(name: str) -> bool:
    """Whether it looks like ``owner/name`` or ``owner/name:config``, and not like a path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith(ENDINGS)
