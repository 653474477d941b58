"""Every registered network: sizes as published, logits from its last linear layer, fit for the influence engine."""

import pytest
import torch
from torch import nn

from kdaif.config import UserError
from kdaif.models import MODELS, build, parameter_count

# millions of parameters: those of 10 classes as tabled by He et al. and akamaster, those of 100 as in the distillation papers
PUBLISHED = [
    ("resnet20", 10, 0.27),
    ("resnet32", 10, 0.46),
    ("resnet44", 10, 0.66),
    ("resnet56", 10, 0.85),
    ("resnet110", 10, 1.73),
    ("resnet8", 10, 0.08),
    ("resnet8x4", 100, 1.23),
    ("resnet32x4", 100, 7.43),
    ("wrn-16-1", 100, 0.18),
    ("wrn-16-2", 100, 0.70),
    ("wrn-40-1", 100, 0.57),
    ("wrn-40-2", 100, 2.26),
    ("vgg8", 100, 3.97),
    ("vgg11", 100, 9.28),
    ("vgg13", 100, 9.46),
    ("vgg16", 100, 14.77),
    ("vgg19", 100, 20.09),
    ("mobilenetv2", 100, 0.81),
    ("shufflenetv2", 100, 1.36),
]
# names of weights in the published checkpoints of the distillation literature, so that those load as they are
PUBLISHED_NAMES = {
    "resnet8x4": [
        "conv1.weight",
        "bn1.bias",
        "layer1.0.downsample.0.weight",
        "layer3.0.downsample.1.running_var",
        "fc.bias",
    ],
    "wrn-16-2": [
        "conv1.weight",
        "block1.layer.0.convShortcut.weight",
        "block3.layer.1.bn2.weight",
        "bn1.weight",
        "fc.weight",
    ],
    "vgg13": ["block0.0.bias", "block0.3.weight", "block4.4.running_mean", "classifier.weight"],
    "mobilenetv2": [
        "conv1.0.weight",
        "blocks.3.1.conv.7.weight",
        "blocks.6.0.conv.3.weight",
        "conv2.1.bias",
        "classifier.0.bias",
    ],
    "shufflenetv2": ["conv1.weight", "layer1.0.conv5.weight", "layer2.7.bn3.weight", "conv2.weight", "linear.weight"],
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return build(request.param, num_classes=7, channels=3)


@pytest.mark.parametrize(("name", "classes", "millions"), PUBLISHED)
def test_parameter_count_is_the_published_one(name: str, classes: int, millions: float) -> None:
    assert round(parameter_count(build(name, classes, 3)) / 1e6, 2) == millions


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_weights_are_named_as_published(name: str) -> None:
    assert set(PUBLISHED_NAMES[name]) <= build(name, 100, 3).state_dict().keys()


def test_last_linear_makes_the_logits(model: nn.Module) -> None:
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    handle = head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model.eval()(torch.randn(2, 3, 32, 32))
    handle.remove()
    assert logits.shape == (2, 7)
    assert seen[0] is logits
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == 1


def test_every_parameter_is_trained(model: nn.Module) -> None:
    model.train().zero_grad()
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert name.endswith("bias") or parameter.grad.abs().max() > 0, name


def test_nothing_works_in_place(model: nn.Module) -> None:
    """A backward hook on every module, as the influence engine sets, refuses in-place changes of what it watches."""
    handles = [module.register_full_backward_hook(lambda module, inputs, outputs: None) for module in model.modules()]
    model.train()(torch.randn(2, 3, 16, 16, requires_grad=True)).sum().backward()
    for handle in handles:
        handle.remove()


def test_samples_are_independent_and_memory_format_is_free_in_evaluation(model: nn.Module) -> None:
    inputs = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        logits = model.eval()(inputs)
        alone = torch.cat([model(one) for one in inputs.split(1)])
        channels_last = model(inputs.to(memory_format=torch.channels_last))
    torch.testing.assert_close(alone, logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(channels_last, logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [8, 64])
def test_takes_grey_images_of_other_sizes(size: int) -> None:
    for name in MODELS:
        assert build(name, num_classes=5, channels=1).eval()(torch.randn(1, 1, size, size)).shape == (1, 5)


def test_first_activations_neither_vanish_nor_explode(model: nn.Module) -> None:
    logits = model.train()(torch.randn(32, 3, 32, 32))
    assert 0.01 < logits.std() < 10


def test_fresh_weights_follow_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build("digits-cnn", 10, 1).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"^teacher\.model: got 'resnet21', takes one of .*resnet20.*\.$"):
        build("resnet21", 10, 3, field="teacher.model")
