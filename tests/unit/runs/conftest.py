import pytest

from kdaif.config import RunConfig
from kdaif.runs import Run, new_run
from tests.factories import sample_frame


@pytest.fixture
def run() -> Run:
    """A queued run of 20 samples in 3 classes, no epoch yet."""
    run = new_run(RunConfig())
    run.write_samples(sample_frame(), ["cat", "dog", "eel"])
    return run
