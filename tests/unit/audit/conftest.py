from collections.abc import Iterator
from pathlib import Path

import pytest

from kdaif.audit.checkpoint import Case, Checkpoint, open_case, open_checkpoint
from kdaif.runs import Run, open_run
from kdaif.train import train_new
from tests.small import small
from tests.unit.audit.tiny import TINY


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A finished run that acted on its first teacher's influence alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDAIF_CACHE", str(tmp_path_factory.mktemp("audited")))
        first = "influence.teacher=frozen"
        result = train_new(small("teacher.optim.epochs=12", "influence.source=teacher", first))
        yield open_run(Path(result["run_dir"]))


@pytest.fixture(scope="session")
def case(done: Run) -> Case:
    return open_case(done, None)


@pytest.fixture
def checkpoint(case: Case) -> Checkpoint:
    return open_checkpoint(case, "teacher", TINY)
