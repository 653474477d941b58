import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kdaif.runs import cache_root
from tests.factories import demo_runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder as the demo leaves it: 2 seeds, 4 epochs."""
    cache = tmp_path_factory.mktemp("demo")
    demo_runs(cache / "runs", seeds=2, epochs=4)
    return cache


@pytest.fixture
def demo(finished_demo: Path) -> Path:
    """The demo's runs in this test's cache folder."""
    return Path(shutil.copytree(finished_demo, cache_root(), dirs_exist_ok=True))


@pytest.fixture
def app() -> AppTest:
    """The dashboard, not yet run."""
    return AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
