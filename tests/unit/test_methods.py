import pytest

from kdaif import methods
from kdaif.config import UserError
from kdaif.data import load
from kdaif.methods import METHODS
from tests.small import small


def test_which_methods_there_are_and_which_need_a_teacher():
    assert {name: method.teacher for name, method in METHODS.items()} == {
        "ce": False,
        "kd": True,
        "kd-aif": True,
        "small-loss": True,
        "aum": True,
        "confident-learning": True,
        "l2rw": True,
        "meta-weight-net": True,
        "oracle": True,
    }
    for name in METHODS:
        assert f"| `{name}` |" in methods.__doc__


@pytest.mark.parametrize("name", METHODS)
def test_what_must_hold_before_training(name):
    config = small("noise.kind=none", "noise.rate=0", "influence.mapping=foo")
    dataset = load(config.data, config.noise, config.seed, None)
    wrong = {"kd-aif": "influence.mapping: got 'foo'", "oracle": "method: 'oracle' needs known clean labels"}
    if name in wrong:
        with pytest.raises(UserError, match=wrong[name]):
            METHODS[name].check(config, dataset)
    else:
        METHODS[name].check(config, dataset)
