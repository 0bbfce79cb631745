"""sample: chains through a generator's codes, on networks of which everything is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_priors import CODE, LABELS, SIDE, Decoder, Reader, reader, small_prior
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.network import Place
from preimage.objectives import Label, Share, of_images, unit, written
from preimage.sample import SAMPLERS, Chain, Condition, Prior, load_prior, sample

QUICK: dict[str, Any] = {"steps": 12, "chains": 2, "every": 4, "progress": False}


def walked(objective: Any = "class:cat", network: Network | None = None, **more: Any) -> Chain:
    options = {"prior": small_prior(), **QUICK, **more}
    return sample(network or reader(7), objective, **options)


# --- what comes back --------------------------------------------------------------------------------------------------


def test_a_chain_has_samples_scores_and_its_settings() -> None:
    chain = walked(["class:cat", "class:dog"])
    assert chain.samples.shape == (3, 4, 3, SIDE, SIDE)
    assert chain.images.equal(chain.samples[-1])
    assert chain.kept == [4, 8, 12]
    assert chain.codes.shape == (3, 4, CODE)
    assert 0 <= chain.samples.min() <= chain.samples.max() <= 1
    assert chain.objectives == ["class:2 (cat)"] * 2 + ["class:3 (dog)"] * 2 or "logprob" in chain.objectives[0]
    json.dumps(chain.as_dict())


def test_scores_are_the_networks_own_log_probabilities() -> None:
    network = reader(7)
    chain = walked(network=network)
    for images, scores in zip(chain.samples, chain.scores, strict=True):
        expected = network.class_scores(images).log_softmax(1)[:, LABELS.index("cat")]
        assert torch.allclose(scores, expected, atol=1e-5)
    assert chain.confident(0.0).shape[0] == 6
    assert chain.confident(1.0).shape[0] == 0


def test_samples_are_what_the_generator_makes_of_the_codes() -> None:
    prior = small_prior()
    chain = walked(prior=prior)
    assert prior.generator is not None
    with torch.no_grad():
        assert torch.allclose(prior.generator(chain.codes[-1]), chain.images, atol=1e-6)


def test_the_condition_is_climbed() -> None:
    chain = walked("class:0,class:1,class:2,class:3,class:4".split(","), steps=80, every=80, sampler="dgn-am", move=0.5)
    gained = (chain.trace[-1] - chain.trace[0]).view(5, 2).mean(1)
    assert (gained > 0).all()
    assert (gained > 0.3).sum() >= 3


# --- samplers ---------------------------------------------------------------------------------------------------------


def test_without_its_first_term_the_joint_sampler_is_dgn_am_bit_for_bit() -> None:
    without = walked(sampler="noiseless-joint", epsilons=(0.0, 1.0, 1e-17))
    dgn_am = walked(sampler="dgn-am")
    assert torch.equal(without.samples, dgn_am.samples)
    assert torch.equal(without.codes, dgn_am.codes)
    assert not torch.equal(walked(sampler="noiseless-joint", epsilons=(0.1, 1.0, 1e-17)).codes, dgn_am.codes)


def test_equation_11_by_hand() -> None:
    """One step in the paper's form: h + eps_1 (E(G(h)) - h) + eps_2 d log p / dh, in the paper's units of codes."""
    prior, network = small_prior(), reader(7)
    assert prior.generator is not None
    eps = (0.3, 0.2, 0.0)
    chain = sample(
        network, "class:cat", prior=prior, form="paper", epsilons=eps, steps=1, chains=1, every=1, progress=False
    )
    h = (prior.scale * torch.randn(CODE, generator=torch.Generator().manual_seed(0)))[None].requires_grad_(True)
    image = prior.generator(h)
    log_p = network.module(image).log_softmax(1)[0, 2]
    (slope,) = torch.autograd.grad(log_p, h)
    with torch.no_grad():
        pulled = prior.encode(image) - h
        expected = h + eps[0] * pulled + eps[1] * prior.scale**2 * slope
    assert torch.allclose(chain.codes[0], expected, atol=1e-6)


def test_codes_stay_within_bounds_in_the_released_form_only() -> None:
    released = walked(steps=60, move=3.0)
    prior = small_prior()
    assert released.codes.min() >= 0
    assert released.codes.max() <= 30 * prior.scale + 1e-6
    assert walked(steps=4, form="paper").codes.min() < 0


def test_published_steps_do_not_depend_on_the_scale_of_codes() -> None:
    """Codes, and what reads and makes them, ten times as large: the same pictures."""

    class Larger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Decoder()

        def forward(self, codes: Tensor) -> Tensor:
            return self.inner(codes / 10)

    large_reader = Reader()
    with torch.no_grad():
        large_reader.code.weight.mul_(10)
        assert large_reader.code.bias is not None
        large_reader.code.bias.mul_(10)
    place = Place("code_relu", after_relu=True)
    large = Prior(
        Larger().eval(), Network(large_reader.eval(), (SIDE, SIDE)), place, None, SIDE, (CODE,), mean_code=10.0
    )
    small = walked(epsilons=(1e-2, 1.0, 1e-2))
    assert torch.allclose(small.samples, walked(prior=large, epsilons=(1e-2, 1.0, 1e-2)).samples, atol=1e-4)


@pytest.mark.parametrize("name", ["joint", "noiseless-joint", "dgn-am"])
def test_a_chain_does_not_depend_on_its_neighbours(name: str) -> None:
    both = walked(["class:cat", "class:dog"], sampler=name)
    alone = walked("class:dog", sampler=name)
    assert torch.allclose(both.samples[:, 2:], alone.samples, atol=1e-5)
    assert not torch.allclose(alone.samples[:, 0], alone.samples[:, 1], atol=1e-3)


def test_denoisers_of_codes_and_of_images() -> None:
    class Halved(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values / 2

    prior = small_prior(denoiser=Halved(), image_denoiser=Halved())
    pulled = walked(prior=prior, sampler="ppgn-h", form="paper", epsilons=(1.0, 1e-12, 0.0), steps=3, every=1)
    assert torch.allclose(pulled.codes[1], pulled.codes[0] / 2, atol=1e-6)
    images = walked(prior=prior, sampler="ppgn-x", epsilons=(1.0, 1e-12, 0.0), steps=3, every=1)
    assert torch.allclose(images.samples[1], images.samples[0] / 2, atol=1e-6)
    own = walked(sampler="ppgn-h", denoiser=lambda codes: codes / 4, form="paper", epsilons=(1.0, 1e-12, 0.0), every=1)
    assert torch.allclose(own.codes[1], own.codes[0] / 4, atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "no-prior"])
def test_images_without_a_prior(name: str) -> None:
    chain = walked(prior=None, sampler=name, steps=40)
    assert chain.samples.shape[2:] == (3, SIDE, SIDE)
    assert (chain.trace[-1] > chain.trace[0]).all()


# --- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["logit", "prob", "logprob", "unsure"])
def test_class_gradients_have_their_formulas(kind: Any) -> None:
    """Table S2 and the released code's: l_i, s_i, log s_i, (1 - s_i) l_i."""
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(True)
    place = Place("output", after_relu=True)
    label = Label(2, kind, place=place)
    (found,) = torch.autograd.grad(label.score({place: logits}).sum(), logits)
    s, chosen = logits.detach().softmax(1), torch.eye(5, dtype=torch.float64)[2].expand(4, 5)
    expected = {
        "logit": chosen,
        "prob": s[:, 2:3] * (chosen - s),
        "logprob": chosen - s,
        "unsure": (1 - s[:, 2:3]) * chosen,
    }[kind]
    assert torch.allclose(found, expected, atol=1e-12)


def test_hidden_units_count_as_shares_of_their_layer() -> None:
    network = reader(7)
    chain = walked(unit("conv", 1, 3, 3), network=network, steps=40)
    place = Place("conv")
    answers = network.run(chain.images, [place])[place][:, :, 3, 3].log_softmax(1)[:, 1]
    assert torch.allclose(chain.scores[-1], answers, atol=1e-5)
    assert (chain.trace[-1] > chain.trace[0]).all()
    as_it_is = walked(unit("conv", 1, 3, 3), network=network, gradient="as asked")
    assert torch.allclose(as_it_is.scores[-1], network.run(as_it_is.images, [place])[place][:, 1, 3, 3], atol=1e-5)


def test_several_networks_at_once_each_at_its_own_size() -> None:
    class Brightness(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[-1] == 2 * SIDE
            return images.flatten(1).mean(1, keepdim=True)

    bright = Network(Brightness(), (2 * SIDE, 2 * SIDE), channels=3, name="brightness")
    asked = [Condition(bright, written(lambda y: y[:, 0], name="brightness"), 400.0)]
    with_it, without = walked(steps=60, also=asked), walked(steps=60)
    assert with_it.images.mean() > without.images.mean() + 0.02
    assert "brightness" in with_it.objectives[0]


def test_a_function_of_images_is_a_condition() -> None:
    network = of_images(lambda images: images[:, 0].flatten(1).mean(1), (SIDE, SIDE), "redness")
    chain = walked(written(lambda y: 50 * y[:, 0], name="red"), network=network, steps=60)
    assert (chain.trace[-1] > chain.trace[0]).all()
    wrong = written(lambda y: y, name="wrong")
    with pytest.raises(RequestError, match="not one score each"):
        walked(wrong, network=network)


def test_shares_of_one_channel_among_all() -> None:
    values = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    place = Place("conv")
    found = Share(place, 2, (1, 4)).score({place: values})
    assert torch.allclose(found.exp(), values[:, :, 1, 4].softmax(1)[:, 2], atol=1e-6)


# --- filling in -------------------------------------------------------------------------------------------------------


def missing() -> Tensor:
    hole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hole[2:6, 3:7] = True
    return hole


def test_known_pixels_never_change() -> None:
    photo = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    chain = walked(fill=(photo, missing()), context=1e-4)
    for images in chain.samples:
        for image in images:
            assert torch.equal(image[:, ~missing()], photo[:, ~missing()])
    assert not torch.allclose(chain.images[0][:, missing()], photo[:, missing()], atol=1e-3)


def test_context_draws_the_generators_picture_to_the_known_pixels() -> None:
    photo = torch.full((3, SIDE, SIDE), 0.9)
    prior = small_prior()
    assert prior.generator is not None
    off = []
    for context in (0.0, 1.0):
        chain = walked(prior=prior, fill=(photo, missing()), context=context, steps=60)
        with torch.no_grad():
            made = prior.generator(chain.codes[-1])
        off.append(float((made - photo)[:, :, ~missing()].square().mean()))
    assert off[1] < 0.8 * off[0]


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["noiseless-joint", "joint"])
@pytest.mark.parametrize("first", [4, 6])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, name: str, first: int) -> None:
    whole = walked(sampler=name, steps=12)
    walked(sampler=name, steps=first).save(tmp_path)
    rest = walked(sampler=name, steps=12 - first, start=tmp_path)
    assert torch.equal(rest.samples, whole.samples)
    assert torch.equal(rest.codes, whole.codes)
    assert torch.equal(rest.trace, whole.trace)
    assert rest.kept == whole.kept
    assert rest.done == 12


def test_saved_chains_read_back(tmp_path: Path) -> None:
    chain = walked()
    chain.save(tmp_path)
    back = Chain.load(tmp_path)
    assert torch.equal(back.samples, chain.samples)
    assert back.settings == json.loads(json.dumps(chain.settings))
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".json", ".safetensors"}
    assert len(list(tmp_path.glob("*-chain.png"))) == 2


def test_an_image_to_start_from() -> None:
    photo = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    prior = small_prior()
    chain = walked(prior=prior, start=photo, steps=1, every=1, move=1e-6)
    assert torch.allclose(chain.codes[0], prior.encode(photo[None]).expand(2, -1), atol=1e-4)


# --- priors and their files -------------------------------------------------------------------------------------------


def test_a_pair_of_ones_own() -> None:
    class Fixed(nn.Module):
        code_shape = (4,)

        def forward(self, codes: Tensor) -> Tensor:
            return codes.mean(1).sigmoid()[:, None, None, None].expand(-1, 3, 32, 32)

    chain = walked(
        prior=(Fixed(), lambda images: images.flatten(1)[:, :4]), network=Network(Reader(), (32, 32), labels=LABELS)
    )
    assert chain.samples.shape[-1] == 32


def test_a_prior_is_borrowed_and_given_back() -> None:
    prior = small_prior()
    assert isinstance(prior.generator, nn.Module)
    prior.generator.train()
    weight = next(prior.generator.parameters())
    before = weight.clone()
    walked(prior=prior)
    assert prior.generator.training
    assert weight.requires_grad
    assert torch.equal(weight, before)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "class:unicorn"}, "unicorn"),
        ({"sampler": "noisless-joint"}, "noiseless-joint"),
        ({"sampler": "ppgn-h"}, "no denoiser of codes"),
        ({"sampler": "ppgn-x"}, "no denoiser of images"),
        ({"sampler": "dgn-am", "epsilons": (0.1, 1, 0)}, "pulled nowhere"),
        ({"prior": None}, "give a prior"),
        ({"prior": "cifar11"}, "there is no prior 'cifar11'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"chains": 0}, "chains must be at least 1"),
        ({"epsilons": (1, 0, 0)}, "eps_2 must be above zero"),
        ({"epsilons": (1, 1)}, "three numbers"),
        ({"form": "old"}, "'released' or 'paper'"),
        ({"form": "paper", "move": 1.0}, "no steps of a given length"),
        ({"gradient": "softmax"}, "gradient is one of"),
        ({"context": 1.0}, "say fill="),
        ({"fill": (torch.zeros(3, 8, 8), torch.zeros(4, 4))}, r"not \[4, 4\]"),
        ({"fill": (torch.zeros(3, 8, 8), torch.zeros(8, 8))}, "something, and not everything"),
    ],
)
def test_bad_input_gets_one_clear_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        walked(**options)


def test_a_generator_of_other_codes_is_refused() -> None:
    with pytest.raises(RequestError, match=r"answers with codes \[6\].*takes \[9\]"):
        small_prior(code_shape=(9,))
    with pytest.raises(RequestError, match=r"makes images \[3, 8, 8\], not \[3, 16, 16\]"):
        Prior(Decoder(), size=16, code_shape=(CODE,))


def test_chains_do_not_go_on_as_others(tmp_path: Path) -> None:
    walked().save(tmp_path)
    with pytest.raises(RequestError, match="were asked"):
        walked("class:dog", start=tmp_path)
    with pytest.raises(RequestError, match="chains"):
        walked(chains=3, start=tmp_path)
    short = walked(last=0.1)
    with pytest.raises(RequestError, match="have an end"):
        walked(start=short)
    (tmp_path / "chain.safetensors").write_bytes(b"nothing")
    with pytest.raises(RequestError, match="cannot be read"):
        walked(start=tmp_path)


def test_a_file_that_is_no_prior(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    path.write_bytes(b"nothing at all")
    with pytest.raises(RequestError, match="cannot be read as a prior"):
        load_prior(path)


def test_samplers_are_published_ones() -> None:
    assert {one.source.split(",")[0] for one in SAMPLERS.values()} == {"paper 3"}
    assert SAMPLERS["noiseless-joint"].epsilons == (1e-5, 1.0, 1e-17)
