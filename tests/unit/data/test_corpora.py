import hashlib
import io
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from kdaif.config import DataConfig, NoiseConfig, UserError
from kdaif.data import corpora, load, tables
from kdaif.data.corpora import GLUE, reviews
from kdaif.data.sources import SOURCES, read_source
from tests.sentences import made_up, write_glue

RATED = [("1", [3, 2, 2, 0, 4]), ("2", [-1, 0, -1]), ("7", [1, -1]), ("9", [-4, -4, 4])]
TEXTS = {"1": "a ''witty'' film", "2": "dull", "7": "so so", "9": "people differ"}


def test_all_nine_tasks_are_named() -> None:
    assert {name for name in SOURCES if name.startswith("glue/")} == {f"glue/{task}" for task in GLUE}
    assert len(GLUE) == 9


@pytest.mark.parametrize("task", ["cola", "mnli", "qqp"])
def test_a_task_out_of_files(tmp_path: Path, task: str) -> None:
    source = read_source(f"glue/{task}", write_glue(tmp_path, task, 60))
    assert (source.name, source.train.name, source.test.name) == (f"glue/{task}", "train", "validation")
    assert source.columns.text == GLUE[task].text
    assert source.columns.text_pair == GLUE[task].pair
    assert source.figures == GLUE[task].figures


def test_similarity_is_a_number_to_be_predicted(tmp_path: Path) -> None:
    source = read_source("glue/stsb", write_glue(tmp_path, "stsb", 120))
    rating = np.array(source.train.rows["label"])
    dataset = load(DataConfig(source="glue/stsb"), NoiseConfig(), 0, tmp_path)
    assert dataset.classes == ("label",)
    assert dataset.figures == ("pearson", "spearman")
    rows = [int(name[-6:]) for name in dataset.train.ids]
    np.testing.assert_allclose(dataset.scale.own(dataset.train.labels.numpy()), rating[rows], atol=1e-5)


def test_a_similarity_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "glue" / "stsb").mkdir(parents=True)
    table = made_up("stsb", 40).to_pandas().assign(label=-1.0)
    for split in ("train", "validation"):
        table.to_parquet(tmp_path / "glue" / "stsb" / f"{split}.parquet")
    with pytest.raises(UserError, match=r"labels of glue/stsb \(train\) must be ratings, takes numbers from 0 to 5"):
        read_source("glue/stsb", tmp_path)


def test_a_task_off_the_hub_is_tested_on_its_validation_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(hub_id: str, config: str) -> datasets.DatasetDict:
        asked.append((hub_id, config))
        names = ["train", "validation_matched", "validation_mismatched", "test_matched"]
        return datasets.DatasetDict({name: made_up("mnli", 12) for name in names})

    monkeypatch.setattr(tables.HfApi, "dataset_info", lambda api, hub_id, timeout: None)
    monkeypatch.setattr(tables.datasets, "load_dataset", load_dataset)
    assert read_source("glue/mnli", None).test.name == "validation_matched"
    assert asked == [("nyu-mll/glue", "mnli")]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with a source distribution in the form of the real one, whose sha256 is the expected one."""

    def packed(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    truth = "".join(f"{number}\t{np.mean(given)}\t{TEXTS[number]}\r\n" for number, given in RATED)
    rated = "".join(f"{number}\t{np.mean(given)}\t{np.std(given)}\t{given}\r\n" for number, given in RATED)
    inner = packed(
        {
            "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": truth.encode(),
            "hutto_ICWSM_2014/movieReviewSnippets_anonDataRatings.txt": rated.encode(),
        }
    )
    sdist = packed({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})
    (tmp_path / corpora.REVIEWS["file"]).write_bytes(sdist)
    monkeypatch.setitem(corpora.REVIEWS, "sha256", hashlib.sha256(sdist).hexdigest())
    return tmp_path


def test_reviews_have_the_sign_of_their_mean_and_keep_the_ratings(archive: Path) -> None:
    source = reviews(archive)
    table = source.train.rows
    assert source.test is None
    assert table["text"] == [TEXTS["1"], "dull", "people differ"]  # a mean of 0 has no sign
    assert [table.features["label"].names[label] for label in table["label"]] == ["positive", "negative", "negative"]
    assert source.train.refs == ["movieReviewSnippets#1", "movieReviewSnippets#2", "movieReviewSnippets#9"]
    np.testing.assert_allclose(table["rating"], [2.2, -2 / 3, -4 / 3])
    np.testing.assert_allclose(table["rating_spread"], [np.std(given) for number, given in RATED if number != "7"])


def test_another_file_in_the_place_of_the_reviews_is_refused(archive: Path) -> None:
    (archive / corpora.REVIEWS["file"]).write_bytes(b"something else")
    with pytest.raises(UserError, match=r"vaderSentiment-3.3.2.tar.gz has sha256 .*, takes the published file"):
        reviews(archive)


@pytest.mark.shared
def test_real_tasks(data_root: Path) -> None:
    sizes = {"sst2": (67349, 872), "mrpc": (3668, 408), "rte": (2490, 277), "wnli": (635, 71), "stsb": (5749, 1500)}
    for task, (train, test) in sizes.items():
        source = read_source(f"glue/{task}", data_root)
        assert (len(source.train.rows), len(source.test.rows)) == (train, test)
    assert pq.read_metadata(data_root / "glue" / "qnli" / "validation.parquet").num_rows == 5463
