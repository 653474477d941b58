"""Shared fixtures; jaxtyping's shapes are checked by beartype in every test run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from kdaif.runs import Run, open_run
from tests.small import small

# shapes in the signatures are promises: hold them in tests, free of cost in use
install_import_hook(
    ["kdaif.data", "kdaif.models", "kdaif.distill", "kdaif.influence", "kdaif.audit", "kdaif.logits"],
    "beartype.beartype",
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's runs."""
    monkeypatch.setenv("KDAIF_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A small run that was really trained, on 250 digits with 30 % flipped labels, by one teacher; see tests/small.py."""
    from kdaif.train import train_new

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDAIF_CACHE", str(tmp_path_factory.mktemp("trained")))
        yield open_run(Path(train_new(small("teacher.optim.epochs=12", "influence.teacher=frozen"))["run_dir"]))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: KDAIF_DATA_ROOT, else ../shared/data; where it is missing tests that need it are skipped."""
    root = Path(os.environ.get("KDAIF_DATA_ROOT", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data sets not found at {root}")
    return root
