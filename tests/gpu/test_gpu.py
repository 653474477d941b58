"""What only a CUDA device can show; `python -m pytest -m gpu tests/gpu`."""

import pytest
import torch

from kdaif.config import load_config
from kdaif.influence import SCORERS
from kdaif.runs import new_run
from kdaif.train import train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _device() -> None:
    if not torch.cuda.is_available():
        pytest.fail("no CUDA device: these tests were asked for by -m gpu")


def test_run_on_the_gpu_finds_flipped_labels() -> None:
    settings = ["noise.kind=symmetric", "noise.rate=0.4", "device=cuda", "precision=bf16"]
    result = train(new_run(load_config("digits", settings)))
    assert result["flipped_auroc"] >= 0.95
    assert result["test_accuracy"] > 0.85


def test_layerwise_scores_equal_the_loop_on_the_gpu() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 5),
    ).to("cuda", torch.float64)
    model.eval()
    batch = torch.randn(16, 3, 8, 8, device="cuda", dtype=torch.float64), torch.randint(0, 5, (16,), device="cuda")
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}

    def criterion(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    fast, slow = (SCORERS[name](model, criterion, batch, [direction]) for name in ("layerwise", "loop"))
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-10)
