"""The weights in a training loop: scores from the step's own backward pass, weights when they are due, and nothing else."""

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence import InfluenceWeights, make_probe
from kdaif.influence.loop import FLOOR
from kdaif.influence.probes import FoldProbe, HeadProbe
from kdaif.influence.scores import loop as loop_scores
from kdaif.metrics.detection import auroc
from tests.unit.influence.cases import CLASSES, cross_entropy, relative_error
from tests.unit.influence.training import SIZE, batches, conv_net, data, one_step, optimizer_of

# --- `lagged`, all layers: the step's own backward pass gives the scores ----------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("scale", [1.0, 1024.0, 0.25], ids=["plain", "loss scale", "accumulated"])
def test_the_step_gives_the_scores_that_a_pass_of_their_own_would(scale: float, weighted: bool) -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, scope="all", refresh_steps=1000)
    if weighted:
        weights.table.weight.copy_(torch.linspace(0.2, 2.0, SIZE))
    explicit = weights.probe(weights.model, cross_entropy, train)
    for index in batches(torch.randperm(SIZE)):
        one_step(weights, train, index, scale)
    weights.step()
    assert isinstance(weights.probe, FoldProbe)
    assert weights.table.visits.tolist() == [1] * SIZE
    assert relative_error(weights.table.own(), explicit.t.float()) < 1e-5
    assert relative_error(weights.table.raw / weights.table.trust(), explicit.mean.float()) < 1e-5


def test_in_half_precision_the_step_gives_nearly_the_same_scores() -> None:
    train, validation = data()
    model = conv_net().float()
    train, validation = ((x.float(), y) for x, y in (train, validation))
    weights = InfluenceWeights(model, validation, SIZE, scope="all", preconditioner="identity")
    explicit = weights.probe(model, cross_entropy, train)
    index = torch.arange(SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        losses = F.cross_entropy(model(train[0]), train[1], reduction="none")
        loss = weights(losses, index)
    loss.backward()
    weights.step()
    found = weights.table.raw / weights.table.trust()
    assert relative_error(found, explicit.mean) < 0.05


def test_what_is_stepped_is_what_is_scored() -> None:
    """With a term beside the label's, or in its place, all layers score the loss of the step."""
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, scope="all", preconditioner="identity")
    weights.table.weight.copy_(torch.linspace(0.2, 2.0, SIZE))
    given, index = weights.table.weight.clone(), torch.arange(SIZE)

    def rest(logits: Tensor, index: Tensor) -> Tensor:
        return logits.square().sum(1)

    def instead(logits: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(logits, (train[1][index] + 1) % CLASSES, reduction="none")

    def stepped(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(batch[0])
        label = given * F.cross_entropy(logits, batch[1], reduction="none")
        return label + (1 - given).clamp_min(0) * instead(logits, index) + rest(logits, index)

    assert isinstance(weights.probe, FoldProbe)
    expected = loop_scores(weights.model, stepped, train, weights.probe.directions).mean(0)
    loss = one_step(weights, train, index, rest=rest, instead=instead)
    assert loss == pytest.approx(float(stepped(weights.model, train).detach().mean()), rel=1e-6)
    weights.step()
    assert relative_error((weights.table.raw / weights.table.trust()).double(), expected) < 1e-5


def test_rest_is_unweighted_and_instead_takes_over() -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE)
    weights.table.weight.copy_(torch.linspace(0, 1.5, SIZE))
    w, index, (rest, other) = weights.table.weight.double(), torch.arange(SIZE), torch.rand(2, SIZE).double()

    def losses() -> Tensor:
        return cross_entropy(weights.model, train)

    given = losses()
    torch.testing.assert_close(weights(given, index), (w / w.mean() * given).mean())
    torch.testing.assert_close(weights(losses(), index, rest=rest), (w / w.mean() * given + rest).mean())
    taken_over = w * given + (1 - w).clamp_min(0) * other
    torch.testing.assert_close(weights(losses(), index, instead=other), taken_over.mean())
    torch.testing.assert_close(weights(losses(), index, rest=rest, instead=other), (taken_over + rest).mean())
    trust = torch.rand(SIZE).double()
    taken = trust * (1 - w).clamp_min(0)
    trusted = (w * given + taken * other) / (w + taken).mean()
    torch.testing.assert_close(weights(losses(), index, instead=other, trust=trust), trusted.mean())


def test_a_weight_near_zero_says_nothing_of_its_sample() -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, scope="all")
    weights.table.weight[:3] = torch.tensor([0.0, FLOOR / 10, 0.5])
    one_step(weights, train, torch.arange(SIZE))
    weights.step()
    assert weights.table.visits[:4].tolist() == [0, 0, 1, 1]


def test_only_a_backward_pass_of_the_step_counts() -> None:
    train, validation = data()
    plain, disturbed = (
        InfluenceWeights(conv_net(), validation, SIZE, scope="all", refresh_steps=1000) for _ in range(2)
    )
    index = torch.arange(8)
    one_step(plain, train, index)
    plain.step()

    model = disturbed.model
    disturbed(F.cross_entropy(model(train[0][8:16]), train[1][8:16], reduction="none"), torch.arange(8, 16))  # given up
    with torch.no_grad():
        model(train[0])
    cross_entropy(model, train).sum().backward()  # somebody's own gradient, before and after
    losses = F.cross_entropy(model(train[0][index]), train[1][index], reduction="none")
    with torch.no_grad():
        model(train[0][:3])
    loss = disturbed(losses, index)
    loss.backward(retain_graph=True)
    loss.backward()
    cross_entropy(model, train).sum().backward()
    disturbed.step()
    assert torch.equal(plain.table.visits, disturbed.table.visits)
    torch.testing.assert_close(plain.table.t, disturbed.table.t)


def test_inputs_are_let_go_with_the_backward_pass() -> None:
    """At once, and not when the garbage collector comes by: no cycles through the graph."""
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, scope="all", preconditioner="identity")
    kept: list[weakref.ref[Any]] = []
    weights.model[3].register_forward_hook(lambda layer, args, y: kept.append(weakref.ref(args[0].untyped_storage())))
    assert isinstance(weights.probe, FoldProbe)
    kept.clear()
    gc.disable()
    try:
        losses = F.cross_entropy(weights.model(train[0]), train[1], reduction="none")
        loss = weights(losses, torch.arange(SIZE))
        loss.backward()
        alive = [ref() is not None for ref in kept]
    finally:
        gc.enable()
    assert alive == [False]


@pytest.mark.parametrize(("scope", "every"), [("last", 1), ("all", 3)])
def test_all_layers_are_scored_in_every_third_epoch(scope: str, every: int) -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, scope=scope)
    course = []
    for _ in range(4):
        for index in batches(torch.randperm(SIZE)):
            one_step(weights, train, index)
            weights.step()
        course.append(int(weights.table.visits.max()))
        assert weights.table.visits.min() == weights.table.visits.max()
    assert course == ([1, 2, 3, 4] if every == 1 else [1, 1, 1, 2])


# --- last layer ------------------------------------------------------------------------------------------------------


def test_the_last_layer_is_scored_on_any_loss() -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE)
    assert isinstance(weights.probe, HeadProbe)
    explicit = weights.probe(weights.model, cross_entropy, train)
    index = torch.arange(SIZE)
    logits = weights.model(train[0])
    losses = F.cross_entropy(logits, train[1], reduction="none")
    weights(3 * losses + logits.square().sum(1), index, scored=losses)
    assert relative_error(weights.table.own(), explicit.t.float()) < 1e-5


@pytest.mark.parametrize("preconditioner", ["adam", "ekfac", "exact"])
def test_the_last_layer_takes_any_preconditioner_in_the_step(preconditioner: str) -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, preconditioner=preconditioner)
    explicit = weights.probe(weights.model, cross_entropy, train)
    one_step(weights, train, torch.arange(SIZE))
    weights.step()
    assert relative_error(weights.table.own(), explicit.t.float()) < 1e-5


@pytest.mark.parametrize("scope", ["last", "all"])
def test_curvature_may_come_from_more_than_the_target(scope: str) -> None:
    train, validation = data()
    narrow = tuple(part[validation[1] == 1] for part in validation)
    weights = InfluenceWeights(conv_net(), narrow, SIZE, scope=scope, curvature=validation)
    folds = list(zip(*(part.tensor_split(len(narrow[1])) for part in narrow), strict=True))
    mean, model = weights.probe(weights.model, cross_entropy, train).mean, conv_net()
    explicit = make_probe(model, cross_entropy, folds, scope=scope, curvature=[validation])
    torch.testing.assert_close(mean, explicit(model, cross_entropy, train).mean)
    alone = make_probe(model, cross_entropy, folds, scope=scope)
    assert not torch.allclose(mean, alone(model, cross_entropy, train).mean, rtol=1e-2)


# --- when scores are made and weights change -------------------------------------------------------------------------


def test_online_weights_the_batch_by_its_own_scores() -> None:
    train, validation = data()
    for scope in ("last", "all"):
        weights = InfluenceWeights(conv_net(), validation, SIZE, scope=scope, update="online")
        index = torch.arange(8)
        explicit = weights.probe(weights.model, cross_entropy, (train[0][:8], train[1][:8]))
        loss = one_step(weights, train, index)
        expected = 2 * torch.sigmoid(explicit.t)
        torch.testing.assert_close(weights.table.applied[index].double(), expected, rtol=1e-4, atol=1e-4)
        losses = cross_entropy(weights.model, (train[0][:8], train[1][:8]))
        assert float(loss) == pytest.approx(float((expected * losses.detach()).sum() / expected.sum()), rel=1e-4)


def test_lagged_weights_change_at_the_end_of_the_epoch() -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE)
    for index in batches(torch.randperm(SIZE)):
        assert torch.equal(weights.table.weight, torch.ones(SIZE))
        one_step(weights, train, index)
        weights.step()
    torch.testing.assert_close(weights.table.weight, 2 * torch.sigmoid(weights.table.own()))
    index = torch.arange(8)
    losses = cross_entropy(weights.model, (train[0][:8], train[1][:8]))
    loss = one_step(weights, train, index)
    w = weights.table.weight[:8].double()
    assert float(loss) == pytest.approx(float((w * losses.detach()).sum() / w.sum()), rel=1e-6)
    torch.testing.assert_close(weights.table.applied[index], weights.table.weight[index])


@pytest.mark.parametrize("accumulated", [1, 2, 3])
def test_an_epoch_ends_whatever_the_steps_are(accumulated: int) -> None:
    """Several batches to an optimiser step, none of which ends where the epoch does."""
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE)
    fitted = []
    for number in range(24):
        one_step(weights, train, torch.randint(0, SIZE, (7,)), 1 / accumulated)
        if (number + 1) % accumulated == 0:
            before = weights.table.weight.clone()
            weights.step()
            fitted.append(not torch.equal(before, weights.table.weight))
    epochs = 24 * 7 // SIZE
    assert epochs - 1 <= sum(fitted) <= epochs


def test_periodic_weights_change_when_the_set_is_scored_anew() -> None:
    train, validation = data()
    model = conv_net()
    weights = InfluenceWeights(model, validation, SIZE, update="periodic", scope="all")
    assert not any(module._forward_hooks for module in model.modules())
    optimizer = optimizer_of(model)
    for index in batches(torch.randperm(SIZE)):
        one_step(weights, train, index)
        optimizer.step()
        weights.step()
    assert weights.table.visits.sum() == 0
    assert torch.equal(weights.table.weight, torch.ones(SIZE))
    explicit = weights.probe(model, cross_entropy, train)
    weights.rescore((index, (train[0][index], train[1][index])) for index in batches(torch.arange(SIZE)))
    assert relative_error(weights.table.own(), explicit.t.float()) < 1e-5
    torch.testing.assert_close(weights.table.weight, 2 * torch.sigmoid(weights.table.own()))


def test_two_phases_score_and_stay_neutral() -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, update="two_phase")
    for _ in range(3):
        for index in batches(torch.randperm(SIZE)):
            one_step(weights, train, index)
            weights.step()
    assert weights.table.visits.tolist() == [3] * SIZE
    assert torch.equal(weights.table.weight, torch.ones(SIZE))
    second = InfluenceWeights(conv_net(), validation, SIZE, prior=weights.table.influence(), source="teacher")
    torch.testing.assert_close(second.table.weight, 2 * torch.sigmoid(weights.table.own()))


def test_warmup_holds_the_students_scores_back() -> None:
    train, validation = data()
    for update in ("lagged", "online"):
        weights = InfluenceWeights(conv_net(), validation, SIZE, update=update, warmup=2 * SIZE)
        changed = []
        for _ in range(3):
            for index in batches(torch.randperm(SIZE)):
                one_step(weights, train, index)
                weights.step()
            changed.append(not torch.equal(weights.table.applied, torch.ones(SIZE)))
        assert changed == [False, False, True]


def test_a_new_direction_is_taken_when_it_is_due() -> None:
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, refresh_steps=2, validation_batch=8)
    probes = []
    for index in batches(torch.randperm(SIZE)):
        one_step(weights, train, index)
        probes.append(weights.probe)
        weights.step()
    assert probes[0] is probes[1]
    assert probes[2] is not probes[1]
    assert weights.probe is not probes[2]  # the epoch has ended
    drawn = [probe.inputs for probe in (probes[0], probes[2])]
    assert drawn[0].shape == (8, 5)
    assert not torch.allclose(*drawn)


# --- it finds wrong labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("update", ["lagged", "online", "periodic", "two_phase"])
def test_wrong_labels_get_lower_weights(update: str, scope: str) -> None:
    torch.manual_seed(0)
    centres = 3 * torch.randn(4, 8)
    clean = torch.randint(0, 4, (400,))
    x = centres[clean] + torch.randn(400, 8)
    flipped = torch.arange(400) % 10 < 3
    y = torch.where(flipped, (clean + 1) % 4, clean)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    weights = InfluenceWeights(model, (x[300:], clean[300:]), size=300, update=update, scope=scope)
    for epoch in range(8):
        if update == "periodic" and epoch % 2 == 1:
            weights.rescore([(torch.arange(300), (x[:300], y[:300]))])
        for index in torch.randperm(300).split(50):
            loss = weights(F.cross_entropy(model(x[index]), y[index], reduction="none"), index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            weights.step()
    assert auroc(-weights.table.influence().numpy(), flipped[:300].numpy()) > 0.95
    weight = weights.table.applied
    if update == "two_phase":
        assert torch.equal(weight, torch.ones(300))
    else:
        assert auroc(-weight.numpy(), flipped[:300].numpy()) > 0.9
        assert weight[flipped[:300]].mean() < 0.5 < 1 < weight[~flipped[:300]].mean()
