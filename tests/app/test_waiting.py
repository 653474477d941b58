import pytest

from app.ui.waiting import words


@pytest.mark.parametrize(
    ("share", "seconds", "said"),
    [
        (0.0, 9.0, "reading the data …"),
        (0.25, 20.0, "reading the data … about 1 min 0 s left"),
        (1.0, 50.0, "reading the data … about 1 s left"),
    ],
)
def test_the_time_left_is_told_once_it_is_known(share, seconds, said):
    assert words(share, "reading the data", seconds) == said
