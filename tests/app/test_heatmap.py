import io

import numpy as np
from PIL import Image

from app.ui.heatmap import METHODS, UNSIGNED, heat, rgb, said
from app.ui.look import ACCENT, HARMFUL, HELPFUL
from kdaif.explain import METHODS as OFFERED

WHITE = np.full((4, 4, 3), 255, np.uint8)


def painted(values: np.ndarray, signed: bool = True, side: int = 4) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(heat(WHITE, values, signed, side))))


def test_the_page_offers_what_captum_is_asked_for():
    assert list(METHODS) == list(OFFERED)
    assert set(UNSIGNED) <= set(METHODS)


def test_for_is_green_against_is_vermilion_and_nothing_leaves_the_picture():
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3] = 1.0, -1.0
    shown = painted(values)
    assert list(shown[0, 0]) == list(rgb(HELPFUL))
    assert list(shown[3, 3]) == list(rgb(HARMFUL))
    assert list(shown[1, 1]) == [255] * 3


def test_without_a_sign_it_is_blue():
    values = np.zeros((4, 4))
    values[0, 0] = 1.0
    assert list(painted(values, signed=False)[0, 0]) == list(rgb(ACCENT))


def test_pixels_are_enlarged_whole_and_grey_images_are_taken():
    grey = np.zeros((4, 4, 1), np.uint8)
    shown = np.asarray(Image.open(io.BytesIO(heat(grey, np.zeros((4, 4)), True, 30))))
    assert shown.shape == (28, 28, 3)
    assert len(np.unique(shown)) == 1


def test_it_is_said_in_words_too():
    values = np.zeros((9, 9))
    assert "every pixel counts nothing" in said("student", values, True)
    values[0, 8], values[1, 8] = 3.0, -1.0
    assert said("teacher", values, True) == (
        "Heat map of the teacher: its centre lies top right; 75 % of it speaks for the class"
    )
    assert "speaks" not in said("teacher", values, False)
