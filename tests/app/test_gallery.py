import base64
import io

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from app.ui.gallery import data_url, png, tile
from app.ui.look import HARMFUL

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_every_pixel(channels):
    pixels = PIXELS[0, :, :, :channels]
    kind, content = data_url(pixels).split(",")
    assert kind == "data:image/png;base64"
    assert_array_equal(decoded(base64.b64decode(content)), pixels.squeeze())


def test_pictures_are_enlarged_by_whole_pixels():
    large = decoded(png(PIXELS[0], 100))
    assert large.shape == (96, 96, 3)
    assert_array_equal(large[::12, ::12], PIXELS[0])
    assert_array_equal(large[11::12, 11::12], PIXELS[0])
    assert decoded(png(PIXELS[0], 4)).shape == (8, 8, 3)


def sample(**changes):
    values = {
        "given": "cat",
        "suggested": "dog",
        "flipped": True,
        "weight": 0.25,
        "verdict": "harmful",
        "ref": "photos.csv#7",
        "text": None,
        "text_pair": None,
        "rating": np.nan,
        "rating_spread": np.nan,
        **changes,
    }
    return next(pd.DataFrame([values], index=[2]).itertuples())


def test_a_tile_says_in_words_what_it_shows_in_colour():
    shown = tile(sample(), PIXELS)
    assert (shown["row"], shown["marker"], shown["sign"], shown["color"]) == (2, "flipped", "▼", HARMFUL)
    assert shown["image"] == data_url(PIXELS[2])
    assert shown["description"] == (
        "Sample 2, harmful: given cat, the teacher would rather say dog; weight 0.25, the label is known to be wrong"
    )


def test_a_sentence_is_shown_with_what_people_said_of_it():
    shown = tile(sample(text="a tender film", rating=2.25, rating_spread=1.04), None)
    assert (shown["sentences"], shown["image"]) == (["a tender film"], None)
    assert shown["raters"] == "people +2.2 ± 1.0"
    pair = tile(sample(text="He left.", text_pair="He went away.", rating=-0.5), None)
    assert pair["sentences"] == ["He left.", "He went away."]
    assert pair["raters"] == "people −0.5"
    assert (tile(sample(), PIXELS)["sentences"], tile(sample(), PIXELS)["raters"]) == ([], "")


def test_a_tile_marks_only_what_is_known_to_be_wrong():
    right = tile(sample(flipped=False, suggested=""), PIXELS)
    assert right["marker"] == ""
    assert "the teacher agrees; weight 0.25, the label is known to be right" in right["description"]
    unknown = tile(sample(flipped=pd.NA), PIXELS)
    assert (unknown["marker"], unknown["description"].endswith("weight 0.25")) == ("", True)


def test_without_a_picture_and_weight_a_tile_shows_the_reference():
    shown = tile(sample(weight=np.nan), None)
    assert (shown["image"], shown["words"], shown["weight"]) == (None, "photos.csv#7", 1.0)
