"""Scores against the per-sample loop, in every layer; against a reference of their own where BatchNorm mixes samples."""

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.overhead import Live
from kdaif.influence.calls import taps
from kdaif.influence.layers import RULES
from kdaif.influence.scores import (
    SCORERS,
    contributions,
    gradient,
    layerwise,
    loop,
)
from tests.unit.influence.cases import (
    ALONE,
    BATCH_NORMS,
    CASES,
    CLASSES,
    Batch,
    Lambda,
    averaged,
    cross_entropy,
    images,
    made,
    pooled,
    random_directions,
    relative_error,
    sequences,
    tokens,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
few = settings(max_examples=12, deadline=None, derandomize=True)


# --- equality with the per-sample loop -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])  # one direction moves the output first, several gather the gradients first
@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize(
    ("scorer", "bar"), [("layerwise", 1e-10), ("jvp", 1e-10), ("finite-difference", 1e-3)], ids=lambda value: str(value)
)
def test_every_scorer_equals_the_loop(scorer: str, bar: float, name: str, count: int) -> None:
    model, batch = made(name)
    model.eval()
    directions = random_directions(model, count)
    scores = SCORERS[scorer](model, cross_entropy, batch, directions)
    assert scores.shape == (count, len(batch[1]))
    assert relative_error(scores, loop(model, cross_entropy, batch, directions)) < bar


def test_every_rule_has_a_case() -> None:
    scored = {type(module) for name in CASES for module in made(name)[0].modules()}
    assert set(RULES) <= scored


@pytest.mark.parametrize("name", ALONE)
def test_single_precision_stays_within_1e_5_of_the_loop(name: str) -> None:
    model, batch = made(name)
    model.eval()
    directions = random_directions(model, 2)
    reference = loop(model, cross_entropy, batch, directions)
    model.float()
    inputs = batch[0].float() if batch[0].is_floating_point() else batch[0]
    scores = layerwise(
        model, cross_entropy, (inputs, batch[1]), [{n: t.float() for n, t in v.items()} for v in directions]
    )
    assert relative_error(scores.double(), reference) < 1e-5


def check(model: nn.Module, batch: Batch) -> None:
    """Layer-wise scores along one and along several directions, all and some parameters: within 1e-5 of the loop."""
    model = model.double().eval()
    names = list(dict(model.named_parameters()))
    for count, chosen in ((1, names), (3, names), (2, names[:1])):
        directions = random_directions(model, count, chosen)
        scores = layerwise(model, cross_entropy, batch, directions)
        assert relative_error(scores, loop(model, cross_entropy, batch, directions)) < 1e-5


sizes = st.integers(1, 5)


@few
@given(batch=sizes, width=sizes, out=sizes, length=st.integers(0, 4), bias=st.booleans(), seed=sizes)
def test_linear_of_any_shape(batch: int, width: int, out: int, length: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(width, out, bias=bias)
    if length:
        check(nn.Sequential(layer, averaged(out)), sequences(batch, length, width))
    else:
        check(
            nn.Sequential(Lambda(lambda x: x.mean(1)), layer, nn.Tanh(), nn.Linear(out, 3)), sequences(batch, 2, width)
        )


@few
@given(
    batch=sizes,
    channels=st.integers(1, 2),
    out=st.integers(1, 2),
    groups=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 1, (1, 2), "same", "valid"]),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
    dimensions=st.integers(1, 2),
)
def test_conv_of_any_shape(
    batch: int,
    channels: int,
    out: int,
    groups: int,
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    padding: Any,
    mode: str,
    bias: bool,
    dimensions: int,
) -> None:
    torch.manual_seed(0)
    stride = 1 if padding == "same" else stride
    one = dimensions == 1
    padding = padding[0] if one and isinstance(padding, tuple) else padding
    layer = (nn.Conv1d if one else nn.Conv2d)(
        groups * channels,
        groups * out,
        kernel[0] if one else kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=mode,
        groups=groups,
        bias=bias,
    )
    data = sequences(batch, groups * channels, 7) if one else images(batch, groups * channels, 6)
    check(nn.Sequential(layer, pooled(groups * out)), data)


@few
@given(
    batch=st.integers(2, 5), channels=sizes, size=st.integers(1, 4), kind=st.sampled_from(["batch", "group", "layer"])
)
def test_norms_of_any_shape(batch: int, channels: int, size: int, kind: str) -> None:
    torch.manual_seed(0)
    width = 2 * channels
    norm = {
        "batch": nn.BatchNorm2d(width),
        "group": nn.GroupNorm(channels, width),
        "layer": nn.LayerNorm((width, size, size)),
    }[kind]
    pixels = size if kind == "layer" else size + 1  # over a single pixel a norm leaves nothing
    check(nn.Sequential(Lambda(torch.sin), norm, pooled(width)), images(batch, width, pixels))


@few
@given(
    batch=sizes,
    length=sizes,
    vocabulary=st.integers(2, 6),
    padding=st.sampled_from([None, 0, -1]),
    width=st.integers(2, 4),
)
def test_embedding_of_any_shape(batch: int, length: int, vocabulary: int, padding: int | None, width: int) -> None:
    torch.manual_seed(0)
    data = tokens(batch, length, vocabulary)
    data[0][0, 0] = 1 if padding == 0 else 0  # at least one that is not padding
    check(nn.Sequential(nn.Embedding(vocabulary, width, padding_idx=padding), averaged(width)), data)


@pytest.mark.parametrize("chunk", [1, 50, 10**9])
def test_scores_do_not_depend_on_how_many_gradients_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("kdaif.influence.layers.CHUNK", chunk)
    for name in ("conv stride, padding", "linear on sequences"):
        model, batch = made(name)
        directions = random_directions(model.eval(), 3)
        scores = layerwise(model, cross_entropy, batch, directions)
        assert relative_error(scores, loop(model, cross_entropy, batch, directions)) < 1e-10


def test_scoring_takes_no_more_memory_than_a_gradient() -> None:
    torch.manual_seed(0)
    convs = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(8)]
    model = nn.Sequential(*convs, Lambda(lambda x: x.mean((2, 3))), nn.Linear(8, CLASSES))
    batch = torch.randn(32, 8, 24, 24), torch.randint(0, CLASSES, (32,))
    (v,) = random_directions(model, 1)
    contributions(model, cross_entropy, batch, [v])
    peaks = []
    for run in (
        lambda: gradient(model, cross_entropy, [batch], list(v)),
        lambda: contributions(model, cross_entropy, batch, [v]),
    ):
        with Live() as live:
            run()
        peaks.append(live.peak)
    assert peaks[1] < 1.2 * peaks[0]


def test_channels_last_images_score_alike() -> None:
    model, (inputs, labels) = made("in-place residual")
    directions = random_directions(model.eval(), 3)
    reference = loop(model, cross_entropy, (inputs, labels), directions)
    model.to(memory_format=torch.channels_last)
    batch = inputs.contiguous(memory_format=torch.channels_last), labels
    assert relative_error(layerwise(model, cross_entropy, batch, directions), reference) < 1e-10


@pytest.mark.parametrize("prepare", [lambda x: x, lambda x: 1 * x], ids=["leaf", "made from one"])
def test_inputs_may_require_gradients(prepare: Callable[[Tensor], Tensor]) -> None:
    model, (inputs, labels) = made("in-place residual")
    directions = random_directions(model.eval(), 2)
    batch = prepare(inputs.clone().requires_grad_()), labels
    scores = layerwise(model, cross_entropy, batch, directions)
    assert relative_error(scores, loop(model, cross_entropy, (inputs, labels), directions)) < 1e-10


def test_a_direction_may_leave_parameters_out() -> None:
    model, batch = made("transformer")
    names = ["tokens.weight", "attention.key.bias", "norm2.weight", "head.weight"]
    (v,) = random_directions(model.eval(), 1, names)
    assert relative_error(layerwise(model, cross_entropy, batch, [v]), loop(model, cross_entropy, batch, [v])) < 1e-10


def test_a_step_on_a_sample_with_a_positive_score_lowers_the_validation_loss() -> None:
    model, train = made("transformer")
    _, validation = made("transformer", seed=1)
    model.eval()
    v = gradient(model, cross_entropy, [validation], [name for name, _ in model.named_parameters()])
    (scores,) = layerwise(model, cross_entropy, train, [v])
    before = float(cross_entropy(model, validation).detach().mean())
    for score, x, y in zip(scores, *train, strict=True):
        step = gradient(model, cross_entropy, [(x[None], y[None])], list(v))
        moved = {name: p.detach() - 1e-6 * step[name] for name, p in model.named_parameters()}
        logits = torch.func.functional_call(model, moved, validation[0]).detach()
        gain = before - float(F.cross_entropy(logits, validation[1]))
        assert gain == pytest.approx(1e-6 * float(score), rel=1e-3)
    assert scores.min() < 0 < scores.max()


def test_contributions_tell_layers_apart() -> None:
    model, batch = made("called twice")
    directions = random_directions(model, 2)
    shares = contributions(model, cross_entropy, batch, directions)
    assert set(shares) == {"first", "twice", "head"}
    for layer, share in shares.items():
        alone = [{name: t for name, t in v.items() if name.startswith(layer)} for v in directions]
        assert relative_error(share, loop(model, cross_entropy, batch, alone)) < 1e-10


def test_half_precision_keeps_the_scores() -> None:
    model, batch = made("in-place residual")
    model.eval().float()
    inputs = batch[0].float()
    directions = random_directions(model, 3)
    reference = loop(model, cross_entropy, (inputs, batch[1]), directions)

    def in_bf16(model: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch[0])
        return F.cross_entropy(logits.float(), batch[1], reduction="none")

    scores = layerwise(model, in_bf16, (inputs, batch[1]), directions)
    assert scores.dtype == torch.float32
    assert relative_error(scores, reference) < 0.05


# --- the sum over samples is the batch's ------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("scorer", ["layerwise", "jvp", "loop"])
@pytest.mark.parametrize("name", [*BATCH_NORMS, "transformer", "tied weights"])
def test_scores_add_up_to_the_batch_gradient(name: str, scorer: str, training: bool) -> None:
    model, batch = made(name)
    model.train(training)
    (v,) = random_directions(model, 1)
    total = gradient(model, cross_entropy, [batch], list(v), reduction="sum")
    expected = sum((total[name] * v[name]).sum() for name in v)
    (scores,) = SCORERS[scorer](model, cross_entropy, batch, [v])
    assert float((scores.sum() - expected).abs() / scores.abs().sum()) < 1e-6


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_of_one_sample_may_be_changed_in_place(count: int) -> None:
    model, (inputs, labels) = made("in-place residual")
    one, directions = (inputs[:1], labels[:1]), random_directions(model.eval(), count)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = layerwise(model, cross_entropy, one, directions)
    assert relative_error(scores, loop(model, cross_entropy, one, directions)) < 1e-10


@pytest.mark.parametrize("scorer", ["layerwise", "jvp"])
def test_losses_that_do_not_depend_on_the_parameters_are_refused(scorer: str) -> None:
    model, batch = made("linear")

    def detached(model: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(model, batch).detach().clone() if scorer == "layerwise" else batch[0].sum(1)

    with pytest.raises(ValueError, match="the losses do not depend on any scored parameter"):
        SCORERS[scorer](model, detached, batch, random_directions(model, 1))


def test_no_batches_give_no_gradient() -> None:
    model, _ = made("linear")
    with pytest.raises(ValueError, match="no batches were given to take a gradient from"):
        gradient(model, cross_entropy, [], ["0.weight"])


def test_gradient_is_the_mean_over_all_samples_of_all_batches() -> None:
    model, (inputs, labels) = made("linear")
    names = list(dict(model.named_parameters()))
    whole = gradient(model, cross_entropy, [(inputs, labels)], names)
    parts = gradient(model, cross_entropy, [(inputs[:2], labels[:2]), (inputs[2:], labels[2:])], names)
    assert all(torch.allclose(whole[name], parts[name]) for name in names)


def test_taps_stop_at_the_scored_layers() -> None:
    model, batch = made("called twice")
    losses, tapped = taps(model, cross_entropy, batch, ["twice.weight"])
    assert torch.equal(losses, cross_entropy(model, batch).detach())
    assert [call.name for call, _ in tapped] == ["twice", "twice"]
    hooks = [module._forward_hooks for module in model.modules()]
    assert not any(hooks)


def test_layers_chain_in_their_order() -> None:
    model, batch = made("in-place residual")
    _, tapped = taps(model, cross_entropy, batch, [name for name, _ in model.named_parameters()])
    order = [call.name for call, _ in tapped]
    assert order == ["stem", "bn1", "conv", "bn2", "head"]
    assert all(a != b for a, b in pairwise(order))
