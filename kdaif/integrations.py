"""KD-AIF in a `transformers.Trainer`: its loop, callbacks and arguments, our weights.

    trainer = InfluenceTrainer(student, arguments, teacher=teacher, train_dataset=train, validation_dataset=validation)
    trainer.train()
    trainer.influence().argsort()[:20]  # the most harmful training samples

For sentence classification, or regression (labels of type float, standardised: see `kdaif.task`), in one process. The weights
are those of ``python -m kdaif train``: the same code makes them, and
batches come in the same order (sentences of like length together), so that a run differs from the built-in loop's only where
optimiser, schedule or clipping do.

Each checkpoint holds the weights' state too. A run resumed at an epoch's end is the same run; one resumed within an epoch takes a
new validation direction there.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from kdaif.adaptive import AdaptiveWeights, check_adaptive
from kdaif.config import DistillationConfig, InfluenceConfig, OptimConfig, RunConfig, StudentConfig, UserError, lookup
from kdaif.data import Batches, Dataset, Split
from kdaif.data.text import PAD
from kdaif.distill import LOSSES, LossTerms
from kdaif.hidden import check_hidden, pass_both
from kdaif.influence import UPDATES
from kdaif.models import TextClassifier
from kdaif.weighting import Setting, Step

INDEX = "kdaif_index"  # column that carries a sample's row through sampler and collator
STATE = "kdaif.pt"  # the weights' state in a checkpoint's folder
SCORING_BATCH = 128
DISTILLATION, INFLUENCE = DistillationConfig(), InfluenceConfig()  # the defaults of the command line


class InfluenceTrainer(Trainer):
    """A Trainer that distils from a teacher with KD-AIF's weights.

    Arguments beside the Trainer's own:
        teacher: a network for the same classes that takes the same tokens; frozen here.
        train_dataset: a tokenised `datasets.Dataset` with `input_ids`, `labels` and, as the model needs them, `token_type_ids`.
        validation_dataset: the same, cut from train: the influence target. Never test data; `eval_dataset` is another matter.
        distillation, influence: the sections of the same names of a run's config.

    Raises `UserError` for data without these columns, several processes, batches of one, a loss of one's own, update `two_phase`,
    and names that do not exist.
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
        if options.get("compute_loss_func") is not None:
            raise UserError("compute_loss_func: got one, takes none: the loss is that of `distillation`.")
        train, validation = _split(train_dataset, "train"), _split(validation_dataset, "validation")
        super().__init__(model, args, train_dataset=train_dataset, **options)
        self.model_accepts_loss_kwargs = (
            False  # the loss is a mean over the batch: divided where gradients are accumulated
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
        optim = OptimConfig.model_construct(
            epochs=_epochs(args, len(self._shuffled()))
        )  # no limit but the Trainer's own
        self.recipe = RunConfig(
            seed=args.seed,
            student=StudentConfig(optim=optim),
            distillation=distillation,
            influence=influence,
        )
        check_adaptive(self.recipe, self.splits)
        if UPDATES[influence.update].phases > 1:
            taken = ", ".join(name for name, update in UPDATES.items() if update.phases == 1)
            raise UserError(f"influence.update: got {influence.update!r}, which trains twice, takes one of {taken}.")
        self.weighting: AdaptiveWeights | None = None
        self.add_callback(_Weights(self))

    def influence(self) -> Float[np.ndarray, "n"]:
        """The t-statistic of each training sample, in the order of `train_dataset`: negative = harmful."""
        return self._weighting().weights.table.influence().cpu().numpy()

    def sample_weights(self) -> Float[np.ndarray, "n"]:
        """The weight of each training sample at its last visit; 1 = neutral."""
        return self._weighting().weights.table.applied.cpu().numpy()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any) -> Any:
        """Scores the training samples with the teacher, then trains as a Trainer does.

        Raises `UserError` where `resume_from_checkpoint` names no checkpoint of a run on as many samples.
        """
        state = self._saved(resume_from_checkpoint) if resume_from_checkpoint else None
        autocast = self.accelerator.autocast
        setting = Setting(
            self.recipe, self.splits, self.student, self.teacher, self._ordered, self.args.device, autocast
        )
        self.weighting = AdaptiveWeights(setting)
        if state is not None:
            self.weighting.load_state_dict(state)
        try:
            return super().train(resume_from_checkpoint, *args, **options)
        finally:
            self.weighting.weights.close()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The weighted distillation loss of a training batch; in evaluation the Trainer's own."""
        index = inputs.pop(INDEX, None)
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if index is None:
            raise UserError(f"data_collator: it drops the column {INDEX!r}, takes one that keeps it.")
        # the labels that were scored, whatever column the model or the collator would have them in
        packed, labels = _packed(inputs), self.splits.train.labels[index.cpu()].to(index.device)
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
        given: Any = self.train_dataset
        rows: Any = self._remove_unused_columns(given.with_format(None), description="training")
        numbered = rows.add_column(INDEX, np.arange(len(rows)))
        loader: DataLoader = DataLoader(numbered, batch_sampler=_Order(self._shuffled()), collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)  # whose `set_epoch` the Trainer calls and which passes it on

    def _saved(self, checkpoint: str | bool) -> dict[str, Any]:
        """The weights' state beside a checkpoint, read without running any code it may hold."""
        folder = get_last_checkpoint(self.args.output_dir) if checkpoint is True else checkpoint
        count = len(self.splits.train)
        try:
            state: dict[str, Any] = torch.load(Path(str(folder)) / STATE, map_location="cpu", weights_only=True)
            fits = len(state["table"]["prior"]) == count
        except Exception:  # a missing or damaged file can raise anything
            fits = False
        if not fits:
            raise UserError(
                f"resume_from_checkpoint: got {folder or checkpoint}, takes a checkpoint with the influence weights ({STATE}) "
                f"of {count} training samples."
            )
        return state

    def _shuffled(self) -> Batches:
        size, seed = self.args.per_device_train_batch_size, self.args.seed
        return Batches(self.splits.train, (), (), size, shuffle=True, augment="none", device="cpu", seed=seed)

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
    """Tells the weights when an epoch begins and when the optimiser has stepped, and saves them with each checkpoint."""

    def __init__(self, trainer: InfluenceTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        epoch = state.epoch or 0
        if epoch == int(epoch):  # not when resumed within it
            self.trainer._weighting().before_epoch(int(epoch) + 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        self.trainer._weighting().after_step()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        torch.save(self.trainer._weighting().state_dict(), folder / STATE)


class _Order:
    """A batch sampler: the rows of each batch, another order each epoch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.batch_size, self.drop_last = None, False  # what accelerate asks a batch sampler for

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch + 1)  # the built-in loop counts from 1, the Trainer from 0

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.index.tolist() for batch in self.batches)


def _epochs(args: TrainingArguments, batches: int) -> int:
    """The epochs that a Trainer begins, of so many batches each; raises `UserError` for none, and for batches of one."""
    if (size := args.per_device_train_batch_size) < 2:
        raise UserError(
            f"args.per_device_train_batch_size: got {size}, takes 2 or more: weights are relative to their batch."
        )
    if args.max_steps > 0:
        return math.ceil(args.max_steps / math.ceil(batches / args.gradient_accumulation_steps))
    if args.num_train_epochs <= 0:
        raise UserError(f"args.num_train_epochs: got {args.num_train_epochs}, takes a number above 0, or max_steps.")
    return math.ceil(args.num_train_epochs)


def _packed(inputs: dict[str, Tensor]) -> Tensor:
    """Token ids as kdaif has them: (batch, 2, length), see kdaif/data/text.py."""
    ids = inputs["input_ids"]
    there = inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(ids, dtype=torch.bool)
    parts = inputs.get("token_type_ids", torch.zeros_like(ids))
    return torch.stack([ids.where(there, PAD), parts.where(there, 0)], dim=1).int()


def _split(rows: datasets.Dataset, name: str) -> Split:
    """A tokenised data set as a split; raises `UserError` where it is none."""
    rows = rows.with_format(None)  # plain lists, whatever format its owner reads it in
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
