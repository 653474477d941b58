"""RunConfig: one frozen, validated object that says everything about a run.

Read from YAML, JSON or a shipped preset, changed by ``--set section.field=value``, saved whole in the run folder.
Every mistake is a `UserError`: one sentence that names the field, what it got and what it takes.
Names of registry entries (models, mappings, ...) are plain strings here and are looked up, by `lookup`, where they are used.
"""

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Entry = TypeVar("Entry")
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
Temperature = Annotated[float, Field(gt=0, le=1000)]


class UserError(ValueError):
    """Bad input from the user: the message is one sentence to be shown as it is, without a traceback."""


def lookup(registry: Mapping[str, Entry], name: str, field: str) -> Entry:
    """The registry's entry of that name; raises `UserError` naming the config field and the choices."""
    if name not in registry:
        raise UserError(f"{field}: got {name!r}, takes one of {', '.join(sorted(registry))}.")
    return registry[name]


class Section(BaseModel):
    """A part of the config: frozen, refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Columns(Section):
    """Which columns of the user's table hold what; None lets the loader find them by type and usual name."""

    input: str | None = None  # the image (bytes, file path)
    text: str | None = None  # the sentence, where the data are text
    text_pair: str | None = None  # the second sentence of a pair
    label: str | None = None  # the label trained on, unless `given` is named
    given: str | None = None  # doubtful labels to train on: `label` then serves evaluation only
    rating: str | None = None  # mean of several people's ratings, shown beside the influence
    rating_spread: str | None = None  # standard deviation of these ratings: how far people disagree


class DataConfig(Section):
    """Where the samples come from and how they are split."""

    source: str = "digits"  # a named source (glue/sst2, ...), a folder, a csv/parquet file, or a Hugging Face hub id
    columns: Columns = Columns()
    # regression: labels are numbers, to be predicted by one output; None: what the source itself says, else classification
    task: Literal["classification", "regression"] | None = None
    train_size: Count | None = None  # stratified subset of the train split, before validation is cut; None: all
    test_size: Count | None = None  # stratified subset of the test split; None: all
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1  # share of train cut off as validation: the influence target
    split_seed: Seed = 0  # decides subset and validation cut; apart from `seed`, so that seeds share their splits
    # long tail put into train alone: its first class is this many times as frequent as its last; validation and test stay
    imbalance: Annotated[float, Field(ge=1, le=1e6)] = 1.0
    edits: str | None = None  # a csv of training samples by id: left out where `label` is empty, else given that label
    image_size: Pixels | None = None  # resize to this many pixels square; None: as they are
    augment: str = "none"  # none, shift, crop-flip
    tokenizer: str = "bpe"  # text: bpe (learnt from the training sentences), minilm, a folder or a hub id
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128  # text: longer sentences (pairs together) are cut to this


class NoiseConfig(Section):
    """Noise put into labels or inputs for an experiment; known clean labels stay beside it for evaluation."""

    kind: str = "none"  # none, symmetric, pair, instance, matrix, column; input: labels stay, inputs are damaged
    rate: Share = 0.0  # share of samples whose label (symmetric, pair, instance) or input (input) changes
    corruption: str = "gaussian"  # kind input: gaussian, blur, occlusion of images; drop of words
    matrix: tuple[tuple[float, ...], ...] | None = None  # kind matrix: row = true class, entries = P(given | true)
    file: str | None = None  # kind column: a parquet file with human labels, joined by row or by `key`
    column: str | None = None  # kind column: the column of noisy labels
    key: str | None = None  # kind column: the column that both tables share
    validation: bool = True  # the validation split is as noisy as the training split (nobody checked it)
    seed: Seed | None = None  # None: the run's seed

    @model_validator(mode="after")
    def _complete(self) -> "NoiseConfig":
        if self.kind == "none" and self.rate > 0:
            raise ValueError("noise.rate is set but noise.kind is 'none'; name a kind, for example symmetric")
        if self.kind in ("matrix", "column") and self.rate > 0:
            raise ValueError(
                f"noise.rate has no meaning for noise.kind {self.kind!r}, which brings its own rate; leave it 0"
            )
        if self.kind == "matrix" and self.matrix is None:
            raise ValueError("noise.kind 'matrix' needs noise.matrix")
        if self.kind == "column" and not self.column:
            raise ValueError("noise.kind 'column' needs noise.column")
        return self


class OptimConfig(Section):
    """How one network is trained."""

    epochs: Annotated[int, Field(ge=1, lt=10**5)] = 30
    batch_size: Annotated[int, Field(ge=2)] = 64  # BatchNorm cannot train on one sample
    optimizer: str = "sgd"  # sgd, adamw
    lr: Positive = 0.05
    momentum: Share = 0.9  # sgd
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: str = "cosine"  # cosine, step (x0.1 at 62.5, 75 and 87.5 % of the epochs), constant
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the steps with rising learning rate


class TeacherConfig(Section):
    """The teacher: a checkpoint, or a network as it comes, or trained on the given labels of the same data and cached."""

    model: str = "digits-cnn"
    checkpoint: str | None = None  # file of weights (safetensors or a state dict); found under --data-root too
    # what it learns here: the given labels, the known clean ones (an upper bound), or nothing: a text model that was fine-tuned
    # for these classes elsewhere
    labels: Literal["given", "clean", "none"] = "given"
    optim: OptimConfig = OptimConfig()

    @property
    def trained(self) -> bool:
        """Whether it is trained here."""
        return not self.checkpoint and self.labels != "none"


class StudentConfig(Section):
    model: str = "digits-cnn-small"
    optim: OptimConfig = OptimConfig()


class DistillationConfig(Section):
    """l_i = alpha CE(student_i, y_i) + (1 - alpha) T^2 KL(teacher_i || student_i)."""

    loss: str = "kd"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Temperature = 4.0  # T
    # text: weight of the squared error between the hidden states of student and teacher, beside the loss (see hidden.py)
    hidden: Annotated[float, Field(ge=0, le=1e6)] = 0.0


class InfluenceConfig(Section):
    """How influence is measured and what it does."""

    source: str = "both"  # whose parameters it is taken in: teacher, student, both
    # retrained: once more, without the samples that it finds harmful, where it was trained here on given labels
    teacher: Literal["frozen", "retrained"] = "retrained"
    update: str = "lagged"  # online, lagged, periodic, two_phase
    scope: Literal["last", "all"] = "last"  # last layer, or all layers
    # the labels of the validation target: teacher (its own), agreed (given ones that it agrees with), given
    validation: str = "teacher"
    # whose loss counts: all, class:NAME (or number), worst-class, group:COLUMN=VALUE (a column of the source), ids:FILE
    # (validation sample ids, one a line)
    target: str = "all"
    temperature: Temperature = 2.0  # of the label's loss whose influence is taken; 1: the plain cross-entropy
    target_temperature: Temperature = 4.0  # of the validation loss that is to fall
    preconditioner: str = "kfac"
    # added to the curvature, as a share of its mean eigenvalue; None: 0.1, of sentences with classes 3 (adaptive.py)
    damping: Positive | None = None
    mapping: str = "posterior"
    # who must second a weight below 1: none, disagreement (the teacher predicts another class)
    corroborate: str = "disagreement"
    # both terms, label (term only), relabel (the teacher's label takes over what the given one loses), confident (the
    # same as far as the teacher is sure; the rest of the sample is dropped)
    apply_to: str = "confident"
    smoothing: Share = 0.9  # share of the old score kept at each visit of the student's own scores
    scoring_runs: Count = 1  # two_phase: training runs that only score, each with the weights of the one before
    refresh_epochs: Count = 1  # periodic: epochs between two scorings of the whole set
    refresh_steps: Count = 100  # steps between two validation directions
    validation_batch: Annotated[int, Field(ge=2)] = 256  # validation samples a direction is taken from during training
    warmup: Share = 0.2  # share of the epochs before the student's own scores change a weight


class BaselinesConfig(Section):
    """Settings of the methods that KD-AIF is compared with."""

    noise_rate: Share | None = None  # small-loss: share of the samples left out; None: estimated from the losses
    warmup: Share = (
        0.3  # small-loss: share of the epochs before any sample is left out, and then of the growth to that share
    )
    smoothing: Share = 0.5  # small-loss: share of a sample's old loss kept at each visit
    percentile: Annotated[float, Field(ge=0, le=100)] = 99.0  # aum: of the threshold samples' areas
    folds: Annotated[int, Field(ge=2, le=100)] = 4  # confident-learning: networks trained, each without one fold
    meta_lr: Positive = 1e-3  # meta-weight-net: learning rate of the weighting network


class RunConfig(Section):
    """One run, whole."""

    method: str = "kd-aif"  # ce, kd, kd-aif, oracle; small-loss, aum, confident-learning, l2rw, meta-weight-net
    seed: Seed = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on a GPU
    data: DataConfig = DataConfig()
    noise: NoiseConfig = NoiseConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    distillation: DistillationConfig = DistillationConfig()
    influence: InfluenceConfig = InfluenceConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    checkpoint_every: Count = 5  # epochs between two checkpoints
    name: str = ""  # a word for people; never a path

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)


# what YAML and JSON raise for text that is none; ValueError: a date or number out of range
_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(file.name.removesuffix(".yaml") for file in resources.files("kdaif").joinpath("presets").iterdir())


def load_config(spec: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> RunConfig:
    """The config in a YAML/JSON file, a shipped preset or plain data, after ``key=value`` overrides (dotted keys, YAML values).

    Raises `UserError` for a file that is missing or not a mapping, an unknown key, a wrong type or value.
    """
    tree = dict(spec) if isinstance(spec, Mapping) else _read(spec)
    for override in overrides:
        _set(tree, override)
    return parse_config(tree)


def parse_config(tree: Mapping[str, Any], unknown: Literal["forbid", "ignore"] = "forbid") -> RunConfig:
    """A validated config from plain data; raises `UserError` for the first thing wrong.

    `unknown="ignore"` reads what another version of kdaif wrote: settings that this one does not have are left out.
    """
    try:
        return RunConfig.model_validate(tree, extra=unknown)
    except ValidationError as error:
        raise UserError(_sentence(error)) from None


def _read(spec: str | Path) -> dict[str, Any]:
    path = Path(spec)
    if str(spec) in presets():
        text = resources.files("kdaif").joinpath("presets", f"{spec}.yaml").read_text()
    elif path.is_file():
        text = path.read_text(errors="replace")
    else:
        raise UserError(f"config: {str(spec)!r} is neither a file nor a preset ({', '.join(presets())}).")
    try:
        tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except _UNREADABLE as error:
        raise UserError(f"config: {spec} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(tree, dict):
        raise UserError(f"config: {spec} must hold a mapping of settings, got {type(tree).__name__}.")
    # a run's own config.json carries its provenance beside the settings
    return dict(tree["config"]) if isinstance(tree.get("config"), dict) else tree


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set: got {override!r}, takes key=value, for example noise.rate=0.4.")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"--set: {parent!r} in {key!r} is a value, not a section.")
        tree[parent] = tree = dict(child)
    try:
        tree[leaf] = yaml.safe_load(value)
    except _UNREADABLE:
        tree[leaf] = value


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "config"
    if first["type"] == "extra_forbidden":
        return f"{field}: this setting does not exist{_nearest(first['loc'])}."
    if first["type"] == "value_error":
        return f"{str(first['ctx']['error']).rstrip('.')}."
    got = repr(first["input"])
    got = got if len(got) <= 80 else f"{got[:77]}..."
    if first["type"] == "model_type":
        return f"{field}: got {got}, takes a section of settings."
    said = first["msg"].removeprefix("Input ")
    said = said if first["type"] == "literal_error" else said.partition(", ")[0]
    return f"{field}: got {got}, {said[0].lower()}{said[1:]}."


def _nearest(loc: tuple[int | str, ...]) -> str:
    section: Any = RunConfig
    for part in loc[:-1]:
        section = section.model_fields[part].annotation
    return f"; {'.'.join(map(str, loc[:-1])) or 'the config'} takes {', '.join(section.model_fields)}"
