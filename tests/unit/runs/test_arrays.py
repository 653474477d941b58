import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kdaif.config import UserError
from kdaif.runs import arrays, cache_root, save_inputs
from kdaif.runs.files import read_table
from tests.factories import epoch_values


def test_trajectories_grow_with_the_run_and_follow_rewritten_epochs(run):
    assert run.trajectories("influence", [3]).shape == (0, 1)
    assert run.trajectories("influence").shape == (0, 0)
    for number in (1, 2):
        run.write_epoch(number, epoch_values(number))
    assert_array_equal(run.trajectories("influence", [3, 1]), [epoch_values(n)["influence"][[3, 1]] for n in (1, 2)])
    run.write_epoch(3, epoch_values(3))
    run.write_epoch(2, epoch_values(7))
    expected = [epoch_values(n)["influence"][[3]] for n in (1, 7, 3)]
    assert_array_equal(run.trajectories("influence", [3]), expected)
    assert_array_equal(run.trajectories("influence", [3]), expected)  # from the cache
    assert_array_equal(run.trajectories("influence"), [epoch_values(n)["influence"] for n in (1, 7, 3)])


def test_only_new_epochs_are_read_again(run, monkeypatch):
    for number in (1, 2):
        run.write_epoch(number, epoch_values(number))
    run.trajectories("weight", [0])
    run.write_epoch(3, epoch_values(3))
    read = []
    monkeypatch.setattr(arrays, "read_table", lambda path, *rest: read.append(path.name) or read_table(path, *rest))
    assert_array_equal(run.trajectories("weight", [0, 1]), [[1, 1], [2, 2], [3, 3]])
    assert read == ["epoch=00003.parquet"]


def test_trajectories_survive_a_deleted_or_damaged_cache(run):
    run.write_epoch(1, epoch_values(1))
    first = run.trajectories("influence", [0, 5])
    (run.path / "trajectories" / "influence.npy").write_bytes(b"rubbish")
    assert_array_equal(run.trajectories("influence", [0, 5]), first)
    (run.path / "trajectories" / "influence.npy").unlink()
    assert_array_equal(run.trajectories("influence", [0, 5]), first)


def test_unknown_field_is_one_sentence(run):
    with pytest.raises(UserError, match=r"field: got '\.\./x', takes one of influence"):
        run.trajectories("../x", [0])


def test_inputs_are_shared_by_content_and_memory_mapped(run):
    inputs = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 1), np.uint8)
    assert run.inputs() is None
    relative = save_inputs(inputs, cache_root())
    assert relative == save_inputs(inputs.copy(), cache_root())
    assert relative != save_inputs(inputs[:10], cache_root())
    run.add_provenance(inputs=relative)
    assert isinstance(run.inputs(), np.memmap)
    assert_array_equal(run.inputs(), inputs)
    (cache_root() / relative).unlink()
    with pytest.raises(UserError, match=r"the inputs .* cannot be read"):
        run.inputs()


def test_inputs_must_be_images():
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(n, h, w, c\), got float32 \(2, 3\)"):
        save_inputs(np.zeros((2, 3), np.float32), cache_root())
