import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdaif import models
from kdaif.config import UserError
from kdaif.data import load
from kdaif.preview import preview
from tests.sentences import small_text, write_sentences
from tests.small import small


def test_it_shows_what_a_run_would_train_on():
    config = small()
    found = preview(config)
    dataset = load(config.data, config.noise, config.seed, None)
    assert found["sizes"] == {"train": 200, "validation": 50, "test": 50}
    assert found["wrong"] == 0.3
    rows = {name: row for row, name in enumerate(dataset.train.ids)}
    assert len(found["samples"]) == len(found["flipped"]) == 8
    for sample in found["samples"] + found["flipped"]:
        row = rows[sample["id"]]
        assert sample["given"] == dataset.classes[dataset.train.labels[row]]
        assert sample["true"] == dataset.classes[dataset.train.clean[row]]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["image"]))))
        assert (pixels == dataset.train.images()[row].squeeze()).all()
    assert all(sample["given"] != sample["true"] for sample in found["flipped"])


def test_the_parameters_are_those_of_the_networks():
    found = preview(small())["models"]
    assert found.keys() == models.MODELS.keys()
    assert found["digits-cnn-small"] == models.parameter_count(models.build("digits-cnn-small", 10, 1))


def test_clean_and_damaged_data_and_wrong_data():
    clean = preview(small("noise.kind=none", "noise.rate=0"))
    assert (clean["wrong"], clean["flipped"], clean["samples"][0]["true"]) == (None, [], None)
    damaged = preview(small("noise.kind=input", "noise.rate=0.25"))
    assert damaged["wrong"] == 0.25
    assert all(sample["given"] == sample["true"] for sample in damaged["flipped"])
    with pytest.raises(UserError, match=r"noise\.kind: got 'foo'"):
        preview(small("noise.kind=foo"))


def test_sentences_are_shown_as_they_are(tmp_path):
    folder = write_sentences(tmp_path / "sentences")
    found = preview(small_text(folder))
    texts = pd.read_parquet(folder / "train.parquet")["text"].tolist()
    assert all(sample["text"] in texts and "image" not in sample for sample in found["samples"])
    assert found["models"].keys() == {"bert-micro", "distilbert-micro"}
    assert all(size > 1000 for size in found["models"].values())
