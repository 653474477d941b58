"""kdaif: knowledge distillation with adaptive influence weights (KD-AIF, arXiv 2501.02705).

`kdaif.InfluenceWeights` puts the weights into a training loop of your own; ``python -m kdaif`` runs the whole.
Names load on first use, so that importing kdaif (as the dashboard does) brings in no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_HOMES = {"InfluenceWeights": "kdaif.influence", "RunConfig": "kdaif.config", "load_config": "kdaif.config"}
__all__ = ["InfluenceWeights", "RunConfig", "load_config"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kdaif' has no attribute {name!r}")
