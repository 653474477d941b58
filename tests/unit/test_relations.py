"""What the student sees in pairs of samples: measured by kdaif.neighbours, read by kdaif.relations."""

import numpy as np
import pytest

from kdaif.audit.checkpoint import open_case, open_network
from kdaif.audit.truth import pair_scores
from kdaif.config import UserError
from kdaif.neighbours import measure
from kdaif.relations import Relations, read_relations, strongest
from kdaif.runs import Run
from tests.factories import digits_run


@pytest.fixture(scope="session")
def found(trained: Run) -> Relations:
    said: list[tuple[float, str]] = []
    with pytest.MonkeyPatch.context() as patch:  # beside the run, whichever test asks first
        patch.setenv("KDAIF_CACHE", str(trained.path.parent.parent))
        measured = measure(trained, say=lambda share, what: said.append((share, what)))
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert said[-1][1] == "looking at the training samples"
    return measured


def test_every_pair_has_the_influence_that_the_engine_gives_it(trained: Run, found: Relations):
    case = open_case(trained, None)
    student = open_network(case, "student").eval().requires_grad_(True)
    pairs = pair_scores(
        student,
        case.pair(case.dataset.train),
        case.pair(case.targets()),
        scope="last",
        preconditioner=case.config.influence.preconditioner,
        damping=case.damping,
        criterion=case.criterion,
        scored=case.scored_criterion,
    ).detach()
    for row in (0, 57, 199):
        np.testing.assert_allclose(found.on_validation(row), pairs[:, row].numpy(), rtol=2e-3, atol=1e-4)


def test_a_flipped_label_harms_more_than_a_right_one(trained: Run, found: Relations):
    means = np.array([found.on_validation(row).mean() for row in range(200)])
    flipped = trained.samples()["flipped"].to_numpy(bool)
    assert means[flipped].mean() < means[~flipped].mean()


def test_likeness_is_the_cosine_of_the_features(found: Relations):
    like = found.likeness(4)
    one, other = found.features[4, :-1], found.features[9, :-1]
    assert like[9] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), rel=1e-5)
    assert like[4] == -np.inf
    assert like.max() <= 1 + 1e-6


def test_most_alike_are_mostly_of_the_same_true_class(trained: Run, found: Relations):
    clean = trained.samples()["clean"].to_numpy()
    nearest = [strongest(found.likeness(row), 1, lowest=False)[0] for row in range(200)]
    assert (clean[nearest] == clean).mean() > 0.6


def test_what_was_measured_is_read_again(trained: Run, found: Relations):
    again = read_relations(trained)
    assert again is not None
    np.testing.assert_array_equal(again.features, found.features)
    assert again.held_inputs == found.held_inputs
    assert list(again.held_ids) == list(found.held_ids)
    held = np.load(trained.path.parent.parent / found.held_inputs)
    assert held.shape == (len(found.held_ids), 8, 8, 1)


def test_before_and_after_damage_there_is_nothing(tmp_path):
    run = digits_run(epochs=1)
    assert read_relations(run) is None
    (run.path / "derived").mkdir()
    (run.path / "derived" / "relations.npz").write_bytes(b"half a file")
    assert read_relations(run) is None


def test_an_unfinished_run_is_refused():
    with pytest.raises(UserError, match="takes a run that is done"):
        measure(digits_run(epochs=2, recorded=1))


def test_the_strongest_come_first():
    values = np.array([3.0, -2.0, 9.0, -7.0, 0.0], np.float32)
    assert list(strongest(values, 2, lowest=True)) == [3, 1]
    assert list(strongest(values, 2, lowest=False)) == [2, 0]
    assert len(strongest(values, 99, lowest=True)) == 5
