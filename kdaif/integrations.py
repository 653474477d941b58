"""KD-AIF in a `transformers.Trainer`: its loop, callbacks and arguments, our weights.

    trainer = InfluenceTrainer(student, arguments, teacher=teacher, train_dataset=train, validation_dataset=validation)
    trainer.train()
    trainer.influence().argsort()[:20]  # the most harmful training samples

For sentence classification, or regression (labels of type float, standardised: see `kdaif.task`), in one process. The weights
are those of ``python -m kdaif train``: the same code makes them, and
batches come in the same order (sentences of like length together), so that a run differs from the built-in loop's only where
optimiser, schedule or clipping do.
"""

from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kdaif.adaptive import AdaptiveWeights, check_adaptive
from kdaif.config import DistillationConfig, InfluenceConfig, OptimConfig, RunConfig, StudentConfig, UserError, lookup
from kdaif.data import Batches, Dataset, Split
from kdaif.data.text import PAD
from kdaif.distill import LOSSES, LossTerms
from kdaif.hidden import check_hidden, pass_both
from kdaif.models import TextClassifier
from kdaif.weighting import Setting, Step

INDEX = "kdaif_index"  # column that carries a sample's row through sampler and collator
SCORING_BATCH = 128
DISTILLATION, INFLUENCE = DistillationConfig(), InfluenceConfig()  # the defaults of the command line


class InfluenceTrainer(Trainer):
    """A Trainer that distils from a teacher with KD-AIF's weights.

    Arguments beside the Trainer's own:
        teacher: a network for the same classes that takes the same tokens; frozen here.
        train_dataset: a tokenised `datasets.Dataset` with `input_ids`, `labels` and, as the model needs them, `token_type_ids`.
        validation_dataset: the same, cut from train: the influence target. Never test data; `eval_dataset` is another matter.
        distillation, influence: the sections of the same names of a run's config.

    Raises `UserError` for data without these columns, several processes, and names that do not exist.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        teacher: nn.Module,
        train_dataset: datasets.Dataset,
        validation_dataset: datasets.Dataset,
        distillation: DistillationConfig = DISTILLATION,
        influence: InfluenceConfig = INFLUENCE,
        **options: Any,
    ) -> None:
        if args.world_size > 1 or args.n_gpu > 1:
            raise UserError(
                f"args: got {args.world_size} processes and {args.n_gpu} GPUs, takes one process on one device."
            )
        train, validation = _split(train_dataset, "train"), _split(validation_dataset, "validation")
        numbered = train_dataset.add_column(INDEX, np.arange(len(train_dataset)))
        super().__init__(model, args, train_dataset=numbered, **options)
        self.model_accepts_loss_kwargs = (
            False  # the loss is a mean over the batch: divided where gradients are accumulated
        )
        optim = OptimConfig(epochs=int(args.num_train_epochs), batch_size=args.per_device_train_batch_size)
        self.recipe = RunConfig(
            seed=args.seed,
            student=StudentConfig(optim=optim),
            distillation=distillation,
            influence=influence,
        )
        self.loss_of = lookup(LOSSES, distillation.loss, "distillation.loss")
        known: Any = model.config
        pad = int(getattr(known, "pad_token_id", None) or 0)
        self.student = TextClassifier(model, pad)
        self.teacher = TextClassifier(teacher, pad).to(args.device).eval().requires_grad_(False)
        if distillation.hidden:
            check_hidden(self.student, self.teacher)
        classes = tuple(str(number) for number in range(known.num_labels))
        if (known.num_labels == 1) != train.labels.is_floating_point():
            raise UserError(
                f"model: it has {known.num_labels} outputs for labels of type {train.labels.dtype}, takes one output for numbers "
                "(float) and one for each class (int)."
            )
        nobody = train.subset(torch.arange(0))
        self.splits = Dataset("trainer", train, validation, nobody, classes, (), ())
        check_adaptive(self.recipe, self.splits)
        self.weighting: AdaptiveWeights | None = None
        self.add_callback(_Weights(self))

    def influence(self) -> Float[np.ndarray, "n"]:
        """The t-statistic of each training sample, in the order of `train_dataset`: negative = harmful."""
        return self._weighting().weights.table.influence().cpu().numpy()

    def sample_weights(self) -> Float[np.ndarray, "n"]:
        """The weight of each training sample at its last visit; 1 = neutral."""
        return self._weighting().weights.table.applied.cpu().numpy()

    def train(self, *args: Any, **options: Any) -> Any:
        """Scores the training samples with the teacher, then trains as a Trainer does."""
        autocast = self.accelerator.autocast
        setting = Setting(
            self.recipe, self.splits, self.student, self.teacher, self._ordered, self.args.device, autocast
        )
        self.weighting = AdaptiveWeights(setting)
        try:
            return super().train(*args, **options)
        finally:
            self.weighting.weights.close()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The weighted distillation loss of a training batch; a batch without rows (in evaluation) has the Trainer's own."""
        index = inputs.pop(INDEX, None)
        if index is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        packed, labels = _packed(inputs), inputs["labels"]
        mix = self.recipe.distillation
        beside: Tensor | None = None
        if mix.hidden:
            logits, teacher_logits, distance = pass_both(self.student, self.teacher, packed)
            beside = mix.hidden * distance
        else:
            logits = self.student(packed)
            with torch.no_grad():
                teacher_logits = self.teacher(packed)

        def losses(labels: Tensor) -> LossTerms:
            return self.loss_of(logits, teacher_logits, labels, mix.alpha, mix.temperature).with_teacher(beside)

        loss = self._weighting().loss(Step(index, labels, logits, teacher_logits, losses))
        return (loss, {"logits": logits}) if return_outputs else loss

    def get_train_dataloader(self) -> DataLoader:
        """Batches in kdaif's order, which depends on seed and epoch alone."""
        size, train = self.args.per_device_train_batch_size, self.splits.train
        options: dict[str, Any] = {"shuffle": True, "augment": "none", "device": "cpu", "seed": self.args.seed}
        rows = self._remove_unused_columns(self.train_dataset, description="training")
        loader: DataLoader = DataLoader(
            rows, batch_sampler=_Order(Batches(train, (), (), size, **options)), collate_fn=self.data_collator
        )
        return loader

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = self._signature_columns or []
        self._signature_columns: Any = list(dict.fromkeys([*columns, INDEX]))

    def _ordered(self, split: Split) -> Batches:
        options: dict[str, Any] = {
            "shuffle": False,
            "augment": "none",
            "device": self.args.device,
            "seed": self.args.seed,
        }
        return Batches(split, (), (), SCORING_BATCH, **options)

    def _weighting(self) -> AdaptiveWeights:
        if self.weighting is None:
            raise UserError("trainer: there are no weights before train() was called.")
        return self.weighting


class _Weights(TrainerCallback):
    """Tells the weights when an epoch begins and when the optimiser has stepped."""

    def __init__(self, trainer: InfluenceTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        self.trainer._weighting().before_epoch(int(state.epoch or 0) + 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        self.trainer._weighting().after_step()


class _Order:
    """A batch sampler: the rows of each batch, another order each epoch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.batch_size, self.drop_last = None, False  # what accelerate asks a batch sampler for

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        self.batches.set_epoch(self.batches.epoch + 1)  # from 1, as in the built-in loop
        return (batch.index.tolist() for batch in self.batches)


def _packed(inputs: dict[str, Tensor]) -> Tensor:
    """Token ids as kdaif has them: (batch, 2, length), see kdaif/data/text.py."""
    ids = inputs["input_ids"]
    there = inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(ids, dtype=torch.bool)
    parts = inputs.get("token_type_ids", torch.zeros_like(ids))
    return torch.stack([ids.where(there, PAD), parts.where(there, 0)], dim=1).int()


def _split(rows: datasets.Dataset, name: str) -> Split:
    """A tokenised data set as a split; raises `UserError` where it is none."""
    if missing := [column for column in ("input_ids", "labels") if column not in rows.column_names]:
        raise UserError(
            f"{name}_dataset: it has no column {missing[0]!r}, takes a tokenised data set with input_ids and labels."
        )
    ids = rows["input_ids"][:]
    parts = rows["token_type_ids"][:] if "token_type_ids" in rows.column_names else [[0] * len(one) for one in ids]
    masks = rows["attention_mask"][:] if "attention_mask" in rows.column_names else [[1] * len(one) for one in ids]
    tokens = torch.zeros(len(ids), 2, max(map(len, ids)), dtype=torch.int32)
    tokens[:, 0] = PAD
    for row, (one, kind, mask) in enumerate(zip(ids, parts, masks, strict=True)):
        kept = torch.tensor([one, kind], dtype=torch.int32)[:, torch.tensor(mask, dtype=torch.bool)]
        tokens[row, :, : kept.shape[1]] = kept
    return Split(
        inputs=tokens,
        labels=torch.tensor(rows["labels"][:]),  # whole numbers are classes, others numbers to be predicted
        clean=None,
        ids=np.array([f"{name}/{row:06d}" for row in range(len(rows))]),
        refs=np.array([f"{name}#{row}" for row in range(len(rows))]),
        texts=np.full((len(rows), 1), "", dtype=object),
    )
