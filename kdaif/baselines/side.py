"""Side networks: of the student's kind, trained on labels alone, only to judge the training samples."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.callbacks import Callback, Moment
from kdaif.config import OptimConfig
from kdaif.data import Batch, Batches, Dataset
from kdaif.fit import fit, make_accelerator, new_model
from kdaif.optim import make_optimizer
from kdaif.weighting import Setting


def train_side(
    setting: Setting,
    dataset: Dataset,
    optim: OptimConfig,
    *,
    stage: str,
    seed: int,
    watch: Callable[[Batch, Tensor], None] = lambda batch, logits: None,
) -> nn.Module:
    """The student's network, fresh, with an output for each of `dataset.classes`, trained on `dataset.train`, in eval mode.

    The run's augmentation and precision. `watch` sees every batch with its logits, detached, as training makes them.
    The random state of the run is left as it was. Raises `UserError` naming `stage` when the loss stops being finite.
    """
    config, device, accelerator = setting.config, setting.device, make_accelerator(setting.config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = new_model(config.student.model, dataset, device, "student.model")
        options: dict[str, Any] = {"shuffle": True, "augment": config.data.augment, "device": device, "seed": seed}
        batches = Batches(dataset.train, dataset.mean, dataset.std, optim.batch_size, **options)
        optimizer, schedule = make_optimizer(network, optim, optim.epochs * len(batches), "student.optim")

        def loss_of(network: nn.Module, batch: Batch) -> Tensor:
            logits = network(batch.inputs)
            watch(batch, logits.detach().float())
            return F.cross_entropy(logits, batch.labels)

        moment = Moment(stage=stage, epochs=optim.epochs)
        fit(network, batches, loss_of, optimizer, schedule, accelerator, Callback(), moment, seed=seed)
    return network.eval()
