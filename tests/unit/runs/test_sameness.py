import os
from pathlib import Path

import pandas as pd
import pytest

from kdaif.config import UserError
from kdaif.runs.sameness import check_same_samples, named_files, stamp, stamped_run
from tests.factories import sample_frame
from tests.small import small


def test_the_files_that_a_config_names_are_found_as_they_are_or_under_the_data_root(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "cifar10").mkdir(parents=True)
    (tmp_path / "edits.csv").write_text("id,label\n")
    monkeypatch.chdir(tmp_path)
    config = small("data.source=cifar10", "data.edits=edits.csv", "teacher.checkpoint=gone.pt")
    expected = {"data.source": (root / "cifar10").resolve(), "data.edits": (tmp_path / "edits.csv").resolve()}
    assert named_files(config, root) == expected
    assert named_files(small(), root) == {}
    ids = named_files(small("influence.target=ids:edits.csv"), None)
    assert ids == {"influence.target": (tmp_path / "edits.csv").resolve()}


@pytest.mark.parametrize("change", ["content", "time", "another file", "a file less"])
def test_a_changed_file_or_folder_has_another_stamp(change, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    first, second = folder / "a.txt", folder / "b.txt"
    for file in (first, second):
        file.write_text("one")
        os.utime(file, ns=(10**18, 10**18))
    before = stamp(folder), stamp(first)
    assert before == (stamp(folder), stamp(first))
    match change:
        case "content":
            first.write_text("other")
        case "time":
            os.utime(first, ns=(10**18, 2 * 10**18))
        case "another file":
            (folder / "c.txt").write_text("")
        case "a file less":
            second.unlink()
    assert stamp(folder) != before[0]
    assert (stamp(first) != before[1]) == (change in ("content", "time"))


def test_a_run_remembers_its_files_and_data_root(tmp_path):
    source = tmp_path / "own.csv"
    source.write_text("text,label\nfine,1\n")
    run = stamped_run(small(f"data.source={source}"), Path("data"))
    assert run.provenance()["files"] == {"data.source": stamp(source.resolve())}
    assert run.provenance()["data_root"] == str(Path("data").absolute())


def test_other_samples_than_those_recorded_are_refused(run):
    frame = sample_frame()
    check_same_samples(run, frame)
    check_same_samples(run, frame[["id", "hash"]])
    shuffled = frame.assign(hash=frame["hash"].to_numpy()[::-1])
    relabelled = frame.assign(label=(frame["label"] + 1) % 10)
    for other in (frame.iloc[:-1], shuffled, relabelled, pd.DataFrame({"id": frame["id"] + "x"})):
        with pytest.raises(UserError, match=r"^run: the data of .* have changed since it began"):
            check_same_samples(run, other)
