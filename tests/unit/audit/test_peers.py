from functools import partial

import numpy as np
import pytest
import torch

from kdaif.audit import peers
from kdaif.audit.checkpoint import Case, Checkpoint
from kdaif.audit.learners import convex_bench, convex_pairs
from kdaif.audit.truth import pair_scores
from kdaif.influence.layers import head
from tests.unit.audit.tiny import TINY

identity = partial(pair_scores, preconditioner="identity")


def test_tracincp_is_our_identity_over_all_layers(checkpoint: Checkpoint):
    theirs = -peers.tracin_score(checkpoint)
    ours = identity(checkpoint.network, checkpoint.train, checkpoint.validation, scope="all").mean(0).numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_tracincp_fast_is_our_identity_in_the_last_layers_weight(checkpoint: Checkpoint):
    head(checkpoint.network)[1].bias.requires_grad_(False)  # captum leaves it out
    theirs = peers.tracin_fast(checkpoint.network, checkpoint.train, checkpoint.validation)
    ours = identity(checkpoint.network, checkpoint.train, checkpoint.validation, scope="last")
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=float(1e-5 * theirs.abs().max()))


def test_self_influence_is_the_squared_norm_of_the_gradient(checkpoint: Checkpoint):
    head(checkpoint.network)[1].bias.requires_grad_(False)
    first = tuple(part[:5] for part in checkpoint.train)
    ours = identity(checkpoint.network, first, first, scope="last").diagonal()
    np.testing.assert_allclose(peers.tracin_self_score(checkpoint)[:5], ours, rtol=1e-3, atol=1e-9)


def test_arnoldi_is_near_the_exact_hessian_of_a_convex_model(case: Case):
    bench = convex_bench(case, 100)
    network = bench.learner(np.arange(100), 0)
    theirs = peers.arnoldi(network, bench.train, bench.validation, krylov=200).mean(0)
    exact = convex_pairs(case, TINY)["all_exact"](network, bench.train, bench.validation).mean(0)
    assert np.corrcoef(theirs, exact)[0, 1] > 0.7


def test_confident_learning_is_the_margin_of_the_probabilities(checkpoint: Checkpoint):
    inputs, labels = checkpoint.train
    with torch.no_grad():
        probabilities = checkpoint.network(inputs).double().softmax(1)
    given = probabilities.gather(1, labels[:, None])[:, 0]
    others = probabilities.scatter(1, labels[:, None], -1).amax(1)
    margin = -(given - others + 1) / 2
    np.testing.assert_allclose(peers.confident_learning(checkpoint, adjusted=False), margin, atol=1e-5)
    assert not np.allclose(peers.confident_learning(checkpoint), margin, atol=1e-3)  # thresholds of the classes


def test_a_package_that_is_not_installed_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "find_spec", lambda package: None if package == "cleanlab" else object())
    assert peers.missing() == ["cleanlab"]
    assert "confident_learning" not in peers.installed(peers.PEERS)
    assert "captum_tracincp" in peers.installed(peers.PEERS)
