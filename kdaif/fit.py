"""The training loop that teacher and student share: it knows steps and epochs, and nothing of what is learnt."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from kdaif import models
from kdaif.callbacks import Callback, Moment
from kdaif.config import RunConfig, UserError
from kdaif.data import Batch, Batches, Dataset

PRECISIONS = {"fp32": "no", "bf16": "bf16"}  # ours -> accelerate's; bf16 needs no loss scale


def make_accelerator(config: RunConfig) -> Accelerator:
    """Device and precision of a run: a GPU with bf16 where there is one, else the CPU in fp32."""
    wanted = config.device
    cuda = torch.cuda.is_available()
    if wanted not in ("auto", "cpu", "cuda"):
        raise UserError(f"device: got {wanted!r}, takes auto, cpu or cuda.")
    if wanted == "cuda" and not cuda:
        raise UserError("device: got 'cuda', but this machine has no usable GPU; takes auto or cpu.")
    on_cpu = wanted == "cpu" or not cuda
    precision = config.precision if config.precision != "auto" else ("fp32" if on_cpu else "bf16")
    # under torchrun the other processes wait while the first trains the teacher
    patient = InitProcessGroupKwargs(timeout=timedelta(days=7))
    return Accelerator(cpu=on_cpu, mixed_precision=PRECISIONS[precision], kwargs_handlers=[patient])


def new_model(name: str, dataset: Dataset, device: torch.device, field: str) -> nn.Module:
    """A network for this data, untrained or pretrained; `UserError` names `field` for an unknown one, one for other data, and for
    images too small or sentences too long for it."""
    if dataset.vocabulary is not None:
        return _new_text_model(name, dataset, field).train().to(device)
    inputs = dataset.train.inputs[:1]
    model = models.build(name, len(dataset.classes), inputs.shape[1], field)
    try:
        with torch.inference_mode():
            model.eval()(inputs.float())
    except RuntimeError:
        height, width = inputs.shape[2:]
        raise UserError(
            f"{field}: {name!r} cannot take images of {width} x {height} pixels; takes larger ones."
        ) from None
    return model.train().to(device).to(memory_format=torch.channels_last)


def _new_text_model(name: str, dataset: Dataset, field: str) -> nn.Module:
    vocabulary, tokens = dataset.vocabulary, dataset.train.inputs
    assert vocabulary is not None
    if name in models.MODELS:
        raise UserError(
            f"{field}: {name!r} takes images, but the data are sentences; takes bert-tiny, minilm-3 or a hub id."
        )
    known = models.Vocabulary(vocabulary.source, vocabulary.tokenizer.get_vocab(), vocabulary.pad)
    model = models.build_text(name, len(dataset.classes), known, field)
    length = tokens.shape[2]
    positions = getattr(model.network.config, "max_position_embeddings", length)
    if length > positions:
        raise UserError(
            f"data.max_tokens: there are sentences of {length} tokens, {field} {name!r} takes up to {positions}."
        )
    return model


def fit(
    model: nn.Module,
    batches: Batches,
    loss_of: Callable[[nn.Module, Batch], Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    accelerator: Accelerator,
    callback: Callback,
    moment: Moment,
    *,
    seed: int,
    after_step: Callable[[], None] = lambda: None,
    before_epoch: Callable[[int], None] = lambda epoch: None,
    after_epoch: Callable[[Moment, float], None] = lambda moment, seconds: None,
) -> None:
    """Trains from epoch `moment.epoch` + 1 to `moment.epochs`.

    Every epoch starts from a random state of its own (seed, epoch), so that a resumed run is the run it would have been.
    Raises `UserError` when the loss stops being finite.
    """
    moment.model, moment.steps = model, len(batches)
    callback.on_stage_begin(moment)
    for epoch in range(moment.epoch + 1, moment.epochs + 1):
        began = time.monotonic()
        torch.manual_seed(seed * 100_003 + epoch)
        batches.set_epoch(epoch)
        before_epoch(epoch)
        model.train()
        total = torch.zeros((), device=accelerator.device)
        for step, batch in enumerate(batches, 1):
            with accelerator.autocast():
                loss = loss_of(model, batch)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            after_step()
            total += loss.detach()
            moment.epoch, moment.step = epoch, step
            callback.on_step_end(moment)
        mean = float(total) / len(batches)
        if not torch.isfinite(torch.tensor(mean)):
            raise UserError(
                f"training: the loss of the {moment.stage} became {mean} in epoch {epoch}; lower its optim.lr."
            )
        moment.metrics = {"epoch": epoch, "train_loss": mean, "lr": optimizer.param_groups[0]["lr"]}
        after_epoch(moment, time.monotonic() - began)
        callback.on_epoch_end(moment)
    callback.on_stage_end(moment)


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> dict[str, Any]:
    """What `restore` takes."""
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """The state in a run's checkpoint; `UserError` for a damaged one."""
    place = "cpu" if device.type == "cpu" else device  # torch.load does not know accelerate's cpu:0
    try:
        state: dict[str, Any] = torch.load(path, map_location=place, weights_only=True)
    except Exception:  # damaged bytes can raise anything
        raise UserError(f"run: the checkpoint {path} is damaged; delete it to start the run anew.") from None
    return state


def restore(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> None:
    """Puts a saved state back."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
