import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from kdaif import outside
from kdaif.config import UserError
from kdaif.outside import cache_root, fetch_sdist, pretrained

CONTENT = b"a source distribution"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def pip(monkeypatch: pytest.MonkeyPatch, brings: bool) -> list[list[str]]:
    """Stands in for pip; returns the commands that it is given."""
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        commands.append(command)
        if brings:
            (Path(command[command.index("--dest") + 1]) / "thing-1.0.tar.gz").write_bytes(CONTENT)
        return subprocess.CompletedProcess(
            command, 0 if brings else 1, "", "" if brings else "WARNING: x\nERROR: no network"
        )

    monkeypatch.setattr(outside.subprocess, "run", run)
    return commands


def fetch(root: Path | None = None, digest: str = DIGEST) -> Path:
    return fetch_sdist("thing==1.0", "thing-1.0.tar.gz", digest, root)


def test_pip_brings_it_once_and_the_cache_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = pip(monkeypatch, brings=True)
    assert fetch() == fetch() == cache_root() / "downloads" / "thing-1.0.tar.gz"
    ((python, *rest),) = commands
    assert python == sys.executable
    assert rest[-1] == "thing==1.0"
    assert [path.name for path in (cache_root() / "downloads").iterdir()] == ["thing-1.0.tar.gz"]


def test_the_data_root_comes_first_and_any_other_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = pip(monkeypatch, brings=True)
    (tmp_path / "thing-1.0.tar.gz").write_bytes(CONTENT)
    assert fetch(tmp_path) == tmp_path / "thing-1.0.tar.gz"
    assert not commands
    with pytest.raises(UserError, match=r"thing-1.0.tar.gz has sha256 .*, takes the published file, 0000"):
        fetch(tmp_path, "0" * 64)


def test_without_a_network_it_says_where_to_put_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, brings=False)
    with pytest.raises(
        UserError, match=r"thing==1.0 cannot be had from PyPI \(ERROR: no network\); takes thing-1.0.tar.gz"
    ):
        fetch()


def test_a_packaged_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(outside.PACKAGED, "minilm", "no_such_package")
    with pytest.raises(
        UserError, match=r"^teacher.model: 'minilm' comes with the package no-such-package, which is not"
    ):
        pretrained("minilm", "teacher.model")
    assert pretrained("someone/model", "teacher.model") == "someone/model"
