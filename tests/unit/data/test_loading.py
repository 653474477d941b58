"""`load`, from config to tensors: digits, tables of our own, the real CIFAR files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kdaif.config import Columns, DataConfig, NoiseConfig, UserError
from kdaif.data import Dataset, load

Frame = Callable[..., pd.DataFrame]
Png = Callable[..., bytes]


def read(
    source: str | Path, noise: dict | None = None, seed: int = 0, root: Path | None = None, **data: object
) -> Dataset:
    config = DataConfig.model_validate({"source": str(source), **data})
    return load(config, NoiseConfig.model_validate(noise or {}), seed, root)


def fingerprint(dataset: Dataset) -> list[object]:
    return [
        (split.ids.tolist(), split.labels.tolist(), split.hashes())
        for split in (dataset.train, dataset.validation, dataset.test)
    ]


class TestDigits:
    def test_sizes_shapes_and_values(self) -> None:
        digits = read("digits")
        assert (digits.name, digits.classes) == ("digits", tuple("0123456789"))
        assert [len(digits.train), len(digits.validation), len(digits.test)] == [1293, 144, 360]
        assert digits.train.inputs.shape == (1293, 1, 8, 8)
        assert digits.train.inputs.dtype == torch.uint8
        assert (digits.train.inputs.min(), digits.train.inputs.max()) == (0, 255)
        assert len(digits.train.inputs.unique()) == 17
        assert digits.train.ids[0] == "digits/all/000000"
        assert digits.train.refs[0] == "load_digits#0"
        assert digits.mean == pytest.approx((digits.train.inputs.double().mean().item() / 255,))

    def test_pixels_and_labels_are_scikit_learns(self) -> None:
        from sklearn.datasets import load_digits

        digits, official = read("digits").test, load_digits()
        rows = [int(name.split("/")[2]) for name in digits.ids]
        assert torch.equal(digits.labels, torch.from_numpy(official.target[rows]))
        assert (digits.images()[..., 0] == np.round(official.images[rows] * 255 / 16)).all()

    def test_every_split_has_the_shares_of_the_whole(self) -> None:
        digits = read("digits")
        for split in (digits.train, digits.validation, digits.test):
            counts = split.labels.bincount()
            assert len(split) * 0.09 <= counts.min()
            assert counts.max() <= len(split) * 0.11

    def test_the_same_config_gives_the_same_data(self) -> None:
        noise = {"kind": "symmetric", "rate": 0.4}
        assert fingerprint(read("digits", noise)) == fingerprint(read("digits", noise))

    def test_the_run_seed_changes_noise_only_and_the_split_seed_never_the_test_split(self) -> None:
        noise = {"kind": "symmetric", "rate": 0.4}
        one, other = read("digits", noise, seed=1), read("digits", noise, seed=2)
        assert one.train.ids.tolist() == other.train.ids.tolist()
        assert not torch.equal(one.train.labels, other.train.labels)
        assert torch.equal(read("digits", {**noise, "seed": 1}, seed=2).train.labels, one.train.labels)
        moved = read("digits", noise, seed=1, split_seed=5)
        assert moved.validation.ids.tolist() != one.validation.ids.tolist()
        assert moved.test.ids.tolist() == one.test.ids.tolist()

    def test_subsets_are_stratified_parts_of_the_whole(self) -> None:
        whole, part = read("digits"), read("digits", train_size=500, test_size=100, validation=0.2)
        assert [len(part.train), len(part.validation), len(part.test)] == [400, 100, 100]
        assert set(part.test.ids) < set(whole.test.ids)
        assert {*part.train.ids, *part.validation.ids} < {*whole.train.ids, *whole.validation.ids}
        assert part.train.labels.bincount().min() >= 38

    def test_noise_is_exact_and_spares_test(self) -> None:
        digits = read("digits", {"kind": "symmetric", "rate": 0.4})
        assert digits.train.flipped.sum() == round(0.4 * 1293)
        assert digits.validation.flipped.sum() == round(0.4 * 144)
        assert not digits.test.flipped.any()
        clean = read("digits")
        assert torch.equal(digits.train.clean, clean.train.labels)
        assert clean.train.clean is None

    def test_validation_can_stay_clean(self) -> None:
        digits = read("digits", {"kind": "pair", "rate": 0.4, "validation": False})
        assert digits.train.flipped.any()
        assert not digits.validation.flipped.any()

    def test_rate_zero_is_known_to_be_clean(self) -> None:
        digits = read("digits", {"kind": "symmetric", "rate": 0})
        assert digits.train.flipped is not None
        assert not digits.train.flipped.any()

    def test_instance_noise_reads_the_images(self) -> None:
        digits = read("digits", {"kind": "instance", "rate": 0.4})
        assert digits.train.flipped.float().mean() == pytest.approx(0.4, abs=0.04)
        assert digits.validation.flipped.float().mean() == pytest.approx(0.4, abs=0.12)
        assert not digits.test.flipped.any()
        assert fingerprint(digits) == fingerprint(read("digits", {"kind": "instance", "rate": 0.4}))
        assert fingerprint(digits) != fingerprint(read("digits", {"kind": "instance", "rate": 0.4}, seed=1))
        assert not read("digits", {"kind": "instance", "rate": 0}).train.flipped.any()

    @pytest.mark.parametrize("corruption", ["gaussian", "blur", "occlusion"])
    def test_input_noise_damages_images_and_keeps_labels(self, corruption: str) -> None:
        noise = {"kind": "input", "corruption": corruption, "rate": 0.4}
        digits, clean = read("digits", noise), read("digits")
        assert clean.train.corrupted is None
        assert digits.train.corrupted.sum() == round(0.4 * 1293)
        assert digits.validation.corrupted.sum() == round(0.4 * 144)
        assert not digits.test.corrupted.any()
        assert not digits.train.flipped.any()
        for part in ("train", "validation", "test"):
            ours, theirs = getattr(digits, part), getattr(clean, part)
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal((ours.inputs != theirs.inputs).flatten(1).any(1), ours.corrupted)
        assert fingerprint(digits) == fingerprint(read("digits", noise))
        assert not read("digits", {**noise, "validation": False}).validation.corrupted.any()
        assert fingerprint(read("digits", {**noise, "rate": 0})) == fingerprint(clean)

    def test_image_size_resizes(self) -> None:
        assert read("digits", image_size=16).test.inputs.shape == (360, 1, 16, 16)


class TestTables:
    def test_a_folder_of_parquet(self, folder: Path) -> None:
        pets = read(folder, validation=0.2)
        assert pets.classes == ("cat", "dog", "eel")
        assert [len(pets.train), len(pets.validation), len(pets.test)] == [24, 6, 12]
        assert pets.test.ids[3] == "pets/test/000003"
        assert pets.test.refs[3] == "test.parquet#3"
        assert pets.test.labels.tolist() == [0, 1, 2] * 4
        assert {name.split("/")[1] for name in pets.validation.ids} == {"train"}
        assert len({*pets.train.hashes(), *pets.validation.hashes(), *pets.test.hashes()}) == 42
        assert pets.test_copies == 0

    def test_a_sample_keeps_its_pixels_label_and_reference(self, folder: Path, png: Png) -> None:
        import io

        from PIL import Image

        train = read(folder, validation=0.2).train
        for image, label, name, ref in zip(train.images(), train.labels.tolist(), train.ids, train.refs):
            row = int(name.split("/")[2])
            assert ref == f"train.parquet#{row}"
            assert label == row % 3
            assert (image == np.asarray(Image.open(io.BytesIO(png(row))))).all()

    def test_one_file_gets_a_test_cut_of_a_fifth(self, tmp_path: Path, frame: Frame) -> None:
        frame(60).to_parquet(tmp_path / "pets.parquet")
        pets = read(tmp_path / "pets.parquet")
        assert [len(pets.train), len(pets.validation), len(pets.test)] == [43, 5, 12]
        assert len({*pets.train.ids, *pets.validation.ids, *pets.test.ids}) == 60
        assert pets.test.labels.bincount().tolist() == [4, 4, 4]

    def test_csv_with_paths_relative_to_it(self, tmp_path: Path, png: Png) -> None:
        (tmp_path / "pictures").mkdir()
        for number in range(20):
            (tmp_path / "pictures" / f"{number}.png").write_bytes(png(number, mode="L"))
        names = [f"pictures/{number}.png" for number in range(20)]
        pd.DataFrame({"file": names, "label": [7, 9] * 10}).to_csv(tmp_path / "pets.csv", index=False)
        pets = read("pets.csv", root=tmp_path)
        assert pets.classes == ("7", "9")
        assert pets.train.inputs.shape[1:] == (1, 5, 6)
        assert pets.train.refs[0].startswith("pets.csv#")

    def test_class_folders(self, tmp_path: Path, png: Png) -> None:
        for number in range(20):
            path = tmp_path / ("cat", "dog")[number % 2] / f"{number:02}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png(number))
        pets = read(tmp_path)
        assert pets.classes == ("cat", "dog")
        assert [len(pets.train), len(pets.validation), len(pets.test)] == [14, 2, 4]
        for ref, label in zip(pets.train.refs, pets.train.labels):
            assert ref.split("/")[0] == pets.classes[label]

    def test_given_labels_are_trained_on_and_label_serves_evaluation(self, folder: Path, frame: Frame) -> None:
        doubtful = frame(30).assign(worker=["cat"] * 10 + ["dog"] * 10 + ["eel"] * 10)
        doubtful.to_parquet(folder / "train.parquet")
        pets = read(folder, validation=0.2, columns={"given": "worker"})
        rows = np.array([int(name.split("/")[2]) for name in pets.train.ids])
        assert pets.train.labels.tolist() == (rows // 10).tolist()
        assert pets.train.clean.tolist() == (rows % 3).tolist()
        assert torch.equal(pets.test.labels, pets.test.clean)
        assert pets.validation.flipped.any()
        assert not read(
            folder, {"validation": False}, validation=0.2, columns={"given": "worker"}
        ).validation.flipped.any()

    def test_other_columns_come_along_in_every_split(self, folder: Path) -> None:
        pets = read(folder, validation=0.2)
        for split in (pets.train, pets.validation, pets.test):
            assert list(split.columns) == ["serial"]
            assert split.columns["serial"].tolist() == [str(1000 + int(name.split("/")[2])) for name in split.ids]

    def test_labels_from_another_file(self, folder: Path) -> None:
        people = pd.DataFrame({"serial": range(1029, 999, -1), "worker": ["eel"] * 30})
        people.to_parquet(folder / "people.parquet")
        noise = {"kind": "column", "file": "pets/people.parquet", "column": "worker", "key": "serial"}
        pets = read("pets", noise, root=folder.parent, validation=0.2)
        assert pets.train.labels.tolist() == [2] * 24
        assert pets.train.clean.unique().tolist() == [0, 1, 2]
        assert not pets.test.flipped.any()

    def test_copies_of_test_images_in_train_are_counted(self, folder: Path, frame: Frame) -> None:
        pd.concat([frame(30), frame(3, start=500)]).to_parquet(folder / "train.parquet")
        assert read(folder).test_copies == 3


def change(folder: Path, **columns: object) -> None:
    table = pd.read_parquet(folder / "train.parquet")
    table.assign(**columns).to_parquet(folder / "train.parquet")


class TestBadInput:
    """Each gives one sentence that names the field."""

    @pytest.mark.parametrize(
        ("data", "noise", "said"),
        [
            ({"source": "no/where/at/all"}, {}, "data.source: got 'no/where/at/all', takes one of digits"),
            (
                {"columns": Columns(label="kind")},
                {},
                "data.columns.label: got 'kind', takes one of image, label, serial",
            ),
            ({"columns": Columns(input="serial")}, {}, "data.columns.input: column 'serial' is int64, takes images"),
            (
                {"columns": Columns(input="label", label="label")},
                {},
                "data.columns.input: column 'label' holds 'cat', no image file",
            ),
            ({"columns": Columns(label="serial")}, {}, "data.validation: class '1000' has 1 sample"),
            ({"train_size": 31}, {}, "data.train_size: got 31, takes 3 .* to 30"),
            ({"test_size": 2}, {}, "data.test_size: got 2, takes 3 .* to 12"),
            ({"validation": 0.05}, {}, "data.validation: got 0.05, which cuts 2 of 30 samples"),
            (
                {},
                {"kind": "gaussian"},
                "noise.kind: got 'gaussian', takes one of column, input, instance, matrix, none",
            ),
            (
                {},
                {"kind": "input", "corruption": "rain"},
                "noise.corruption: got 'rain', takes one of blur, drop, gaussian, occl",
            ),
            ({}, {"kind": "matrix", "matrix": [[1.0]]}, "noise.matrix: got 1 rows of 1 entries, takes 3 x 3"),
            ({}, {"kind": "column", "column": "worker", "file": "people.parquet"}, "noise.file: got 'people.parquet'"),
            ({"columns": Columns(given="serial")}, {"kind": "pair"}, "noise.kind: got 'pair', takes none where"),
        ],
    )
    def test_config_that_does_not_fit(self, folder: Path, data: dict, noise: dict, said: str) -> None:
        config = DataConfig.model_validate({"source": str(folder), "validation": 0.2, **data})
        with pytest.raises(UserError, match=f"^{said}") as caught:
            load(config, NoiseConfig.model_validate(noise), 0, None)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({"label": "cat"}, "data.columns.label: every sample is of class 'cat', takes two classes or more"),
            ({"label": ["cat", "dog"] * 14 + ["cat", "eel"]}, "data.validation: class 'eel' has 1 sample"),
            ({"label": [None] + ["cat"] * 29}, "data.columns.label: column 'label' has 1 rows without a label"),
            (
                {"label": ["cat", "dog"] * 15},
                "data.columns.label: column 'label' has the label 'eel', takes .* cat, dog",
            ),
            ({"label": np.linspace(0, 1, 30)}, "data.columns.label: column 'label' is .*, takes class names or whole"),
            ({"image": [b"corrupt"] * 30}, "data: image train.parquet#0 cannot be read"),
            ({"image": ["gone.png"] * 30}, "data: image train.parquet#0 cannot be read: .*gone.png"),
            (
                {"image": "a film of two halves"},
                "data.columns.input: column 'image' holds .*; sentences are data.columns.text",
            ),
        ],
    )
    def test_tables_that_cannot_be_trained_on(self, folder: Path, columns: dict, said: str) -> None:
        change(folder, **columns)
        with pytest.raises(UserError, match=f"^{said}"):
            read(folder, validation=0.2)

    def test_images_of_different_size(self, folder: Path, png: Png) -> None:
        change(folder, image=[png(row, width=6 + row) for row in range(30)])
        with pytest.raises(UserError, match=r"^data.image_size: images differ in size"):
            read(folder, validation=0.2)
        assert read(folder, validation=0.2, image_size=8).train.inputs.shape == (24, 3, 8, 8)

    @pytest.mark.parametrize(
        ("column", "named", "there"),
        [
            ("label", {}, "text, sure"),
            ("text", {}, "other, sure, label"),
            ("sure", {"rating": "sure"}, "text, label"),
        ],
    )
    def test_a_test_table_without_a_column_of_train(self, tmp_path: Path, column: str, named: dict, there: str) -> None:
        words = pd.DataFrame({"text": ["a good film", "a bad film"] * 10, "sure": 0.5, "label": [1, 0] * 10})
        words.to_csv(tmp_path / "train.csv", index=False)
        other = words.rename(columns={"text": "other"}) if column == "text" else words.drop(columns=column)
        other.to_csv(tmp_path / "test.csv", index=False)
        said = rf"^data.source: the test table of .* has no column '{column}', takes one as in train; it has {there}\.$"
        with pytest.raises(UserError, match=said):
            read(tmp_path, validation=0.2, tokenizer="bpe", columns=Columns(**named))

    def test_an_empty_table(self, folder: Path, frame: Frame) -> None:
        frame(30)[:0].to_parquet(folder / "train.parquet")
        with pytest.raises(UserError, match=r"^data.source: the train table of pets has no rows"):
            read(folder)

    def test_a_data_root_that_is_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"^--data-root: got .*gone', takes a folder that exists"):
            read("digits", root=tmp_path / "gone")


@pytest.mark.shared
class TestRealData:
    def test_cifar10(self, data_root: Path) -> None:
        cifar = read("cifar10", root=data_root)
        assert [len(cifar.train), len(cifar.validation), len(cifar.test)] == [18_000, 2_000, 10_000]
        assert cifar.train.inputs.shape[1:] == (3, 32, 32)
        assert cifar.classes[:4] == ("airplane", "automobile", "bird", "cat")
        assert cifar.test.labels[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]
        assert cifar.test.labels.bincount().tolist() == [1000] * 10
        assert cifar.test.ids[0] == "cifar10/test/000000"
        assert cifar.train.refs[-1].startswith("train-00001-of-00002.parquet#")
        assert cifar.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.003)
        assert cifar.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.003)

    def test_cifar100_with_human_labels(self, data_root: Path) -> None:
        noise = {
            "kind": "column",
            "file": "label_noise/cifar100n.parquet",
            "column": "noisy_label",
            "key": "official_index",
        }
        cifar = read("cifar100", noise, root=data_root, validation=0.02, test_size=1000)
        assert [len(cifar.train), len(cifar.validation), len(cifar.test)] == [49_000, 1_000, 1_000]
        assert (len(cifar.classes), cifar.classes[0], cifar.classes[99]) == (100, "apple", "worm")
        flipped = torch.cat([cifar.train.flipped, cifar.validation.flipped])
        assert flipped.float().mean().item() == pytest.approx(0.4020, abs=0.0001)
        assert cifar.train.clean.bincount().tolist() == [490] * 100
        assert not cifar.test.flipped.any()

    def test_rows_without_a_key_are_the_official_order(self, data_root: Path) -> None:
        noise = {"kind": "column", "file": "label_noise/cifar100n.parquet", "column": "noisy_label"}
        by_row = read("cifar100", noise, root=data_root, train_size=2000, test_size=100)
        by_key = read("cifar100", {**noise, "key": "official_index"}, root=data_root, train_size=2000, test_size=100)
        assert torch.equal(by_row.train.labels, by_key.train.labels)

    def test_coarse_labels_by_column(self, data_root: Path) -> None:
        cifar = read("cifar100", root=data_root, train_size=500, test_size=100, columns={"label": "coarse_label"})
        assert len(cifar.classes) == 20

    def test_sst2(self, data_root: Path) -> None:
        dataset = read("glue/sst2", root=data_root, train_size=300, test_size=50)
        assert dataset.classes == ("negative", "positive")
        assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (270, 30, 50)
        assert dataset.train.texts.shape == (270, 1)
