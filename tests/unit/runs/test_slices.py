import pytest

from kdaif.config import UserError
from kdaif.runs.slices import MARKED, delete_slice, list_slices, read_slice, write_slice
from tests.factories import digits_run


@pytest.fixture
def run():
    return digits_run(epochs=1)


def test_a_set_is_kept_under_any_name_with_its_labels(run):
    write_slice(run, "../cats that / look like dogs ✓", [3, 1], ["dog", ""])
    assert list_slices(run) == ["../cats that / look like dogs ✓"]
    found = read_slice(run, "../cats that / look like dogs ✓")
    assert list(found["row"]) == [3, 1]
    assert list(found["label"]) == ["dog", ""]
    assert [path.parent.name for path in run.path.rglob("*.parquet") if "slices" in path.parts] == ["slices"]


def test_writing_again_replaces_and_an_empty_set_is_none(run):
    write_slice(run, MARKED, [1, 2])
    write_slice(run, MARKED, [5])
    assert list(read_slice(run, MARKED)["row"]) == [5]
    write_slice(run, MARKED, [])
    assert list_slices(run) == []
    assert read_slice(run, MARKED).empty
    delete_slice(run, "never there")


def test_names_are_in_order_and_a_damaged_file_spares_the_rest(run):
    for name in ("b", "a"):
        write_slice(run, name, [1])
    (run.path / "slices" / "broken.parquet").write_bytes(b"half")
    assert list_slices(run) == ["a", "b"]


@pytest.mark.parametrize("name", ["", "   ", "x" * 61])
def test_a_name_has_a_length(run, name):
    with pytest.raises(UserError, match="takes 1 to 60 characters"):
        write_slice(run, name, [1])
