import itertools
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pytest

from kdaif.config import DataConfig, NoiseConfig, UserError
from kdaif.data import load, tables
from kdaif.data.sources import SOURCES, read_source
from kdaif.data.tables import read_file
from kdaif.paths import find_path

Frame = Callable[..., pd.DataFrame]
Png = Callable[..., bytes]


def test_digits_are_embedded() -> None:
    digits = read_source("digits", None)
    assert (digits.name, digits.test) == ("digits", None)
    assert len(digits.train.rows) == 1797
    assert digits.train.rows.features["label"].names == [str(number) for number in range(10)]


def test_a_folder_of_tables(folder: Path) -> None:
    source = read_source(str(folder), None)
    assert (source.name, source.train.name, source.test.name) == ("pets", "train", "test")
    assert (source.train.refs[29], source.test.refs[11]) == ("train.parquet#29", "test.parquet#11")


def test_parts_are_read_in_order_and_keep_their_names(tmp_path: Path, frame: Frame) -> None:
    frame(5).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    frame(4, start=50).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    frame(3).to_parquet(tmp_path / "validation.parquet")
    source = read_source(str(tmp_path), None)
    assert source.train.refs[4:6] == ["train-00000-of-00002.parquet#4", "train-00001-of-00002.parquet#0"]
    assert len(source.train.rows) == 9
    assert source.test.name == "validation"


def test_sources_are_looked_for_under_the_data_root(folder: Path) -> None:
    assert read_source("pets", folder.parent).name == "pets"
    assert find_path("pets/test.parquet", folder.parent) == folder / "test.parquet"
    assert find_path("pets/none.parquet", folder.parent) is None
    assert [find_path(odd, folder.parent) for odd in ("", "x" * 3000, "~nobody/x", "a\0b")] == [None] * 4


def test_a_named_source_is_read_from_its_folder_in_the_data_root(tmp_path: Path, frame: Frame) -> None:
    home = tmp_path / "svhn"
    home.mkdir()
    frame(6).to_parquet(home / "train.parquet")
    frame(3).to_parquet(home / "test.parquet")
    assert len(SOURCES["svhn"](tmp_path).train.rows) == 6


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_files_of_every_kind(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["None", "NA"]})
    path = tmp_path / f"pets.{ending}"
    match ending:
        case "csv":
            table.to_csv(path, index=False)
        case "parquet":
            table.to_parquet(path)
        case _:
            table.to_json(path, orient="records", lines=ending == "jsonl")
    source = read_source(str(path), None)
    assert (source.name, source.train.name, source.test) == ("pets", "all", None)
    assert source.train.rows[1] == {"path": "b.png", "label": "NA"}
    assert source.train.folder == tmp_path


def test_a_csv_is_read_whatever_is_in_a_column_that_nobody_uses(tmp_path: Path) -> None:
    mixed = pd.DataFrame({"code": [*map(str, range(300_000)), "A7"], "label": 1})  # pandas reads it in several parts
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    assert read_file(tmp_path / "mixed.csv")[-1] == {"code": "A7", "label": 1}
    (tmp_path / "large.csv").write_text(f"code,good,label\n{10**29 + 1},True,x\n,,y\n")
    rows = read_file(tmp_path / "large.csv")
    assert rows["code"][:] == [str(10**29 + 1), None]
    assert rows["good"][:] == [True, None]
    (tmp_path / "comma.csv").write_text("code,label\n7,x,\n8,y,\n")
    assert read_file(tmp_path / "comma.csv")[0] == {"code": 7, "label": "x"}


def test_class_folders_with_and_without_splits(tmp_path: Path, png: Png) -> None:
    for split, kind in [("train", "cat"), ("train", "dog"), ("test", "cat")]:
        (tmp_path / split / kind).mkdir(parents=True)
        (tmp_path / split / kind / "1.png").write_bytes(png(1))
        (tmp_path / split / kind / "notes.txt").write_text("no image")
    source = read_source(str(tmp_path), None)
    assert source.train.refs == ["train/cat/1.png", "train/dog/1.png"]
    assert source.train.rows["label"][:] == ["cat", "dog"]
    assert len(source.test.rows) == 1
    alone = read_source(str(tmp_path / "train"), None)
    assert (alone.train.name, alone.test, len(alone.train.rows)) == ("all", None, 2)


def test_class_folders_are_found_by_a_relative_path(tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, kind in itertools.product(("train", "test"), ("cat", "dog")):
        (tmp_path / "pets" / split / kind).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "pets" / split / kind / f"{number}.png").write_bytes(png(number))
    monkeypatch.chdir(tmp_path)
    for source, sizes in [("pets", [4, 4, 8]), ("pets/train", [3, 3, 2])]:
        found = load(DataConfig(source=source, validation=0.5), NoiseConfig(), 0, None)
        assert [len(split) for split in (found.train, found.validation, found.test)] == sizes


def test_hidden_files_and_folders_are_no_samples_and_no_classes(tmp_path: Path, png: Png) -> None:
    home = tmp_path / ".cache" / "pets"  # where the data lie says nothing of them
    for kind in ("cat", "dog", ".ipynb_checkpoints", "__MACOSX"):
        (home / kind).mkdir(parents=True)
        (home / kind / "1.png").write_bytes(png(1))
        (home / kind / "._1.png").write_bytes(b"of macOS")
    assert read_source(str(home), None).train.refs == ["cat/1.png", "dog/1.png"]


class TestHub:
    """The hub itself is out of reach: its two calls are stood in for."""

    @pytest.fixture(autouse=True)
    def _hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load_dataset(hub_id: str, config: str | None) -> datasets.DatasetDict:
            table = datasets.Dataset.from_dict({"image": [b"x"] * 3, "label": [0, 1, 1]})
            splits = {"full": {"train": table, "test": table}, "mini": {"train": table}, "odd": {"dev": table}}
            return datasets.DatasetDict(splits[config or "full"])

        monkeypatch.setattr(tables.HfApi, "dataset_info", lambda api, hub_id, timeout: None)
        monkeypatch.setattr(tables.datasets, "load_dataset", load_dataset)

    def test_splits_become_tables(self) -> None:
        source = read_source("someone/pets", None)
        assert source.name == "someone/pets"
        assert (source.train.refs[2], source.test.refs[0]) == ("someone/pets/train#2", "someone/pets/test#0")
        assert read_source("someone/pets:mini", None).test is None

    def test_a_set_without_train_is_refused(self) -> None:
        with pytest.raises(UserError, match="'someone/pets' has the splits dev, takes one with a train split"):
            read_source("someone/pets:odd", None)

    def test_a_hub_out_of_reach_says_so_at_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def unreachable(api: object, hub_id: str, timeout: float) -> None:
            raise ConnectionError("Name or service\nnot known")

        monkeypatch.setattr(tables.HfApi, "dataset_info", unreachable)
        with pytest.raises(UserError, match=r"data.source: 'cifar10' is not a folder under --data-root.*not known\.$"):
            read_source("cifar10", tmp_path)


@pytest.mark.parametrize("source", ["cifra10", "./pets", "/no/where", "some/pets.csv", "a/b/c"])
def test_a_source_that_is_nothing_is_refused_without_the_network(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^data.source: got '{source}', takes one of digits, cifar10, cifar100, svhn"):
        read_source(source, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pets.txt", b"a", "has the ending '.txt', takes one of .parquet, .csv, .json, .jsonl"),
        ("pets.parquet", b"no parquet", "pets.parquet cannot be read"),
        ("pets.parquet", b"", "pets.parquet cannot be read"),
        ("pets.csv", b"", "pets.csv cannot be read: No columns to parse"),
        ("pets.csv", b"a,b\n1,2\n1,2,3\n", "pets.csv cannot be read"),
        ("pets.csv", b"a,b\n1,2,3\n1,2,3\n", "cannot be read: its rows have more fields than its first line has names"),
        ("pets.csv", b"\xff\xfe\xfa,\x00", "pets.csv cannot be read"),
        ("pets.json", b"[{", "pets.json cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"^data: .*{said}") as caught:
        read_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, frame: Frame) -> None:
    with pytest.raises(UserError, match=r"data.source: folder .* takes train.parquet"):
        read_source(str(tmp_path), None)
    frame(3).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"data.source: folder .* takes train.parquet"):
        read_source(str(tmp_path), None)


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, frame: Frame) -> None:
    frame(3).to_parquet(tmp_path / "train-0.parquet")
    frame(3).assign(label=[0.5, 1, 2]).to_parquet(tmp_path / "train-1.parquet")
    with pytest.raises(UserError, match=r"the train files in .* do not fit together"):
        read_source(str(tmp_path), None)
