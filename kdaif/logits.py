"""The teacher's logits for every batch, computed once and then read: by later epochs, and by other runs on the same stream.

A frozen teacher in eval mode says the same of the same input, and its forward pass is more than half of a plain distillation
step. Runs that share teacher, samples, seed and augmentation (the methods of a sweep) see the very same inputs in the very same
batches, so the first one's logits serve all, to the last bit. Without augmentation one pass serves all epochs too.

``data_cache/logits/<digest>/epoch=00003.npy``: float32 (samples, classes), derived, safe to delete.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kdaif.config import RunConfig
from kdaif.data import Batch, Dataset
from kdaif.outside import world
from kdaif.parallel import shared
from kdaif.runs import cache_root
from kdaif.runs.files import write_atomic

LIMIT = 2**30  # bytes of a whole run's logits; longer streams are not kept


class TeacherLogits:
    """Logits of a run's training batches; `teacher` is in eval mode, `folder` None keeps nothing on disk.

    `once`: inputs are the same in every epoch.
    """

    def __init__(self, teacher: nn.Module, folder: Path | None, samples: int, *, once: bool) -> None:
        self.teacher, self.folder, self.once = teacher, folder, once
        self._samples, self._epoch = samples, -1
        self._table: Tensor | None = None
        self._missing = samples  # rows of the table not yet filled

    @torch.no_grad()
    def __call__(self, batch: Batch, epoch: int) -> Float[Tensor, "batch classes"]:
        """The logits of a batch of this epoch (from 1)."""
        self._turn_to(0 if self.once else epoch)
        if self._table is not None and self._missing == 0:
            return self._table[batch.index]
        logits: Tensor = shared(self.teacher, batch.inputs).float()
        if self._table is None:
            self._table = logits.new_zeros(self._samples, logits.shape[1])
        self._table[batch.index] = logits
        self._missing -= len(batch.index)
        if self._missing == 0:
            self._keep()
        return logits

    def _turn_to(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._epoch, self._table, self._missing = epoch, None, self._samples
        if self.folder is None:
            return
        try:
            found = np.load(self._path(), allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not there yet, or damaged: made again
            return
        if found.dtype == np.float32 and found.ndim == 2 and len(found) == self._samples:
            device = next(self.teacher.parameters()).device
            self._table, self._missing = torch.from_numpy(found).to(device), 0

    def _keep(self) -> None:
        if self.folder is None or self._table is None:
            return
        values = self._table.cpu().numpy()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path(), lambda file: np.save(file, values, allow_pickle=False))

    def _path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"epoch={self._epoch:05d}.npy"


def teacher_logits(teacher: nn.Module, path: Path, config: RunConfig, dataset: Dataset, device: str) -> TeacherLogits:
    """The logits of this run's batches by the teacher whose weights are in the file `path`."""
    once = config.data.augment == "none"
    samples, epochs = len(dataset.train), 1 if once else config.student.optim.epochs
    # several processes keep nothing: they must all find it, or none
    short = world() == 1 and samples * len(dataset.classes) * 4 * epochs <= LIMIT
    folder = cache_root() / "logits" / _digest(path, config, dataset, device) if short else None
    return TeacherLogits(teacher, folder, samples, once=once)


def _digest(path: Path, config: RunConfig, dataset: Dataset, device: str) -> str:
    """Of all that decides the logits' bits: weights, inputs and their order, and how they are computed."""
    digest = hashlib.sha1(path.read_bytes(), usedforsecurity=False)
    digest.update(np.ascontiguousarray(dataset.train.inputs.numpy()).data)
    recipe = [
        config.teacher.model,
        config.data.augment,
        config.seed,
        config.student.optim.batch_size,
        config.precision,
        device,
        dataset.mean,
        dataset.std,
    ]
    digest.update(json.dumps(recipe).encode())
    return digest.hexdigest()[:16]
