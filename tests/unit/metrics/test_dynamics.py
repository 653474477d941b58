import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kdaif.metrics.dynamics import bands, heat, moments, stratified

VALUES = np.array([[0.0, 1.0, np.nan], [1.0, 1.0, np.nan], [np.nan, 1.0, np.nan]], np.float32)


def test_moments_are_over_measured_epochs_only():
    found = moments(VALUES)
    assert_allclose(found.mean, [0.5, 1, np.nan])
    assert_allclose(found.std, [0.5, 0, np.nan])


def test_moments_agree_with_numpy_for_large_means():
    values = (1000 + np.random.default_rng(0).normal(size=(50, 40))).astype(np.float32)
    found = moments(values)
    assert_allclose(found.mean, values.mean(0, dtype=float), rtol=1e-6)
    assert_allclose(found.std, values.std(0, dtype=float), rtol=1e-3)


def test_heat_gives_every_epoch_its_own_shares():
    found = heat(np.array([[0.0, 0, 0, 1], [1, 1, 1, np.nan], [np.nan] * 4]), bins=2)
    assert_allclose(found.share, [[0.75, 0.25], [0, 1], [0, 0]])
    assert found.edges[0] < found.edges[-1]


def test_heat_counts_outliers_in_the_outermost_bins():
    values = np.random.default_rng(0).normal(size=(3, 2000))
    values[0, 0] = 1e6
    found = heat(values)
    assert_allclose(found.share.sum(1), 1)
    assert found.edges[-1] < 10


@pytest.mark.parametrize("values", [np.ones((2, 5)), np.full((2, 5), np.nan), np.empty((0, 0))])
def test_heat_of_what_does_not_vary_is_whole(values):
    found = heat(values)
    assert (np.diff(found.edges) > 0).all()
    assert_allclose(found.share.sum(1), np.isfinite(values).any(1))


def test_bands_are_percentiles_of_measured_samples():
    values = np.vstack([np.arange(11.0), np.full(11, np.nan)])
    values[0, 10] = np.nan
    assert_allclose(bands(values), [[0.9, 4.5, 8.1], [np.nan] * 3])


def test_strata_keep_their_share_and_small_ones_are_seen():
    strata = np.repeat([0, 1, 2], [9000, 990, 10])
    rows = stratified(strata, 1000)
    assert_array_equal(np.bincount(strata[rows]), [900, 99, 10])
    assert (np.diff(rows) > 0).all()
    assert_array_equal(rows, stratified(strata, 1000))
    assert_array_equal(stratified(strata[:5], 1000), range(5))
