import pytest
import torch
from torch import nn

from kdaif.influence import PRECONDITIONERS, scope_names, validation_direction
from kdaif.influence.loop import cross_entropy


@pytest.mark.parametrize("name", ["whiten", "kfac", "ekfac"])
def test_a_model_that_is_one_bare_layer_is_preconditioned_like_one_in_a_sequential(name: str):
    torch.manual_seed(0)
    bare = nn.Linear(6, 3)
    batch = torch.randn(20, 6), torch.randint(3, (20,))
    directions = []
    for model in (bare, nn.Sequential(bare)):
        names = scope_names(model, "all")
        inverse = PRECONDITIONERS[name](model, cross_entropy, [batch], names, 0.1)
        directions.append(validation_direction(model, cross_entropy, [batch], names, inverse))
    torch.testing.assert_close(directions[0]["weight"], directions[1]["0.weight"])
    torch.testing.assert_close(directions[0]["bias"], directions[1]["0.bias"])
