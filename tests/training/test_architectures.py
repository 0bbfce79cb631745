"""Networks made from settings alone: shapes, ranges, equal makes, and what a file may not ask for."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from preimage import Network, Place, RequestError
from preimage.sample.architectures import (
    ARCHITECTURES,
    Classifier,
    CodeDenoiser,
    Discriminator,
    Encoder,
    Generator,
    ImageDenoiser,
    build,
    name_of,
)

few = settings(max_examples=15, deadline=None)

MADE: dict[str, dict[str, Any]] = {
    "generator": {"code_shape": [6], "channels": 3, "size": 12, "width": 3, "widest": 4, "hidden": 7, "norm": True},
    "discriminator": {"channels": 3, "size": 12, "width": 2, "hidden": 5, "spectral": True},
    "code-denoiser": {"length": 6, "width": 20},
    "image-denoiser": {"channels": 3, "width": 4},
    "encoder": {"channels": 3, "size": 16, "classes": 4, "width": 2, "code": 6},
    "classifier": {"channels": 3, "size": 16, "classes": 4, "width": 2},
}


def test_all_are_covered() -> None:
    assert MADE.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", MADE)
def test_settings_make_an_equal_network(name: str) -> None:
    module = build(name, MADE[name])
    assert name_of(module) == name and not module.training
    assert module.settings == MADE[name]
    again = build(name, json.loads(json.dumps(module.settings)))
    again.load_state_dict(module.state_dict())
    codes = name in ("generator", "code-denoiser")
    given = torch.rand(2, 6) if codes else torch.rand(2, 3, *[MADE[name].get("size", 16)] * 2)
    with torch.no_grad():
        assert torch.equal(module(given), again(given))


@few
@given(st.integers(2, 70), st.sampled_from([1, 3]), st.booleans(), st.booleans())
def test_any_size_of_image(size: int, channels: int, places: bool, norm: bool) -> None:
    shape = (3, 2, 2) if places else (5,)
    images = Generator(shape, channels, size, width=2, widest=4, norm=norm)(10 * torch.randn(2, *shape))
    assert images.shape == (2, channels, size, size)
    assert images.min() >= 0 and images.max() <= 1 and images.dtype == torch.float32
    assert Discriminator(channels, size, 2, 3)(images).shape == (2,)
    assert ImageDenoiser(channels, 4)(images).shape == images.shape


def test_a_spectral_discriminator_s_layers_stretch_nothing() -> None:
    """Each weight, as a matrix of one row per output, has no singular value above 1 once its estimate has settled."""
    torch.manual_seed(0)
    made = Discriminator(3, 16, width=4, hidden=6, spectral=True).train()
    for _ in range(50):
        made(torch.rand(2, 3, 16, 16))
    weights = [part.weight for part in made.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(weights) == 8
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.flatten(1), 2).detach()) == pytest.approx(1, abs=1e-3)


def test_the_paper_s_sizes() -> None:
    """fc6 of AlexNet to 227 x 227, cut from 256 x 256 (SPEC P27); relu4_1 of VGG-19 to 224 x 224."""
    with torch.device("meta"):
        ours = Generator((4096,), 3, 227, width=8)
        assert ours(torch.zeros(1, 4096)).shape == (1, 3, 227, 227)
        assert ours.upconvolutions(ours.fully_connected(torch.zeros(1, 4096))).shape == (1, 3, 256, 256)
        assert Generator((512, 28, 28), 3, 224)(torch.zeros(1, 512, 28, 28)).shape == (1, 3, 224, 224)
        linear = [part for part in ours.fully_connected if isinstance(part, nn.Linear)]
        assert len(linear) == 3
        judge = Discriminator(3, 227)
        assert sum(isinstance(part, nn.Conv2d) for part in judge.modules()) == 5
        assert sum(isinstance(part, nn.Linear) for part in judge.modules()) == 3
        assert judge(torch.zeros(2, 3, 227, 227)).shape == (2,)


def test_leaky_relus_after_every_layer_but_the_last() -> None:
    made = Generator((5,), 3, 32)
    layers = [*made.fully_connected, *made.upconvolutions]
    kinds = (nn.Linear, nn.ConvTranspose2d, nn.Conv2d)
    for part, following in pairwise(layers):
        if isinstance(part, kinds):
            assert isinstance(following, nn.LeakyReLU) and following.negative_slope == 0.3
    assert isinstance(layers[-1], nn.Conv2d)
    doubling = [part for part in layers if isinstance(part, nn.ConvTranspose2d)]
    assert [(p.kernel_size, p.stride, p.padding) for p in doubling] == [((4, 4), (2, 2), (1, 1))] * 3


def test_the_seven_hidden_layers_of_the_paper() -> None:
    with torch.device("meta"):
        linear = [part for part in CodeDenoiser(4096).modules() if isinstance(part, nn.Linear)]
    assert [part.out_features for part in linear] == [4096, 2048, 1024, 500, 1024, 2048, 4096, 4096]


@few
@given(st.floats(1e-3, 1e3))
def test_codes_are_taken_in_units_of_their_scale(scale: float) -> None:
    torch.manual_seed(0)
    for module, power in ((Generator((5,), 1, 8, 2), 0), (CodeDenoiser(5, 20), 1)):
        codes = torch.rand(2, 5)
        expected = module(codes) * scale**power
        module.get_buffer("code_scale").fill_(scale)
        torch.testing.assert_close(module(codes * scale), expected, rtol=1e-4, atol=1e-5 * max(1, scale))


def test_the_encoder_has_the_taps_of_codes_and_features() -> None:
    torch.manual_seed(0)
    network = Network(Encoder(3, 32, 10).eval(), mean=(0.5,) * 3, std=(0.25,) * 3)
    assert network.input_size == (32, 32)
    features, code = Place("pool5", True), Place("fc6", True)
    found = network.run(torch.rand(2, 3, 32, 32), [features, code])
    assert found[features].shape == (2, 128, 4, 4) and found[features].min() == 0
    assert found[code].shape == (2, 256) and found[code].min() == 0 < found[code].max()
    assert network.class_scores(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    other = Network(Classifier(3, 32, 10).eval())
    assert other.class_scores(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("painter", {}, "there is no architecture 'painter'"),
        ("generators", {}, "there is no architecture 'generators'; there are generator"),
        ("generator", {"depth": 3}, "'generator' has no setting 'depth'; it has code_shape, channels, size"),
        ("generator", {"size": 0}, "size is a whole number from 2 to 1024, not 0"),
        ("generator", {"size": 10**9}, "size is a whole number from 2 to 1024, not 1000000000"),
        ("generator", {"size": 32.0}, "not 32.0"),
        ("generator", {"width": True}, "not True"),
        ("generator", {"width": "os.system('x')"}, "width is a whole number"),
        ("generator", {"code_shape": [3, 4]}, r"a code has the shape \[length\] or \[channels, side, side\]"),
        ("generator", {"code_shape": "abc"}, "a code has the shape"),
        ("generator", {"code_shape": [3, 4, 5]}, "a code that has places is square, not 4 x 5"),
        ("generator", {"code_shape": [3, 50, 50]}, "needs larger images than 12 x 12"),
        ("generator", {"code_shape": [65536], "hidden": 65536}, r"would have [\d,]+ weights; at most 500,000,000"),
        ("encoder", {"size": 30}, "an eighth of size is a whole number from 1 to 128, not 3.75"),
        ("code-denoiser", {"width": 8193}, "width is a whole number from 1 to 8192"),
    ],
)
def test_what_a_file_may_not_ask_for(name: str, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        build(name, {**MADE.get(name, {}), **changed})


def test_a_setting_that_is_missing() -> None:
    with pytest.raises(RequestError, match="the architecture 'encoder' needs the setting 'classes'"):
        build("encoder", {"channels": 3, "size": 32})


def test_codes_of_another_length() -> None:
    with pytest.raises(RequestError, match=r"this generator takes codes \[N, 5\], not \[2, 6\]"):
        Generator((5,), 3, 8)(torch.zeros(2, 6))


def test_a_module_that_is_not_ours() -> None:
    class Mine(Generator):
        pass

    with pytest.raises(RequestError, match="Mine is none of the architectures"):
        name_of(Mine((5,), 3, 8))
