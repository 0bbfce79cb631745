"""What images, or codes, are pulled towards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place


class Grey:
    """r(v) = 0: pulling towards it is weight decay, v <- v - eps_1 v (paper 0, SPEC A7; of codes, paper 3's DGN-AM as
    first published)."""

    def __call__(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values)

    def __repr__(self) -> str:
        return "Grey()"


@dataclass(frozen=True, eq=False)
class Learned:
    """r of a denoising autoencoder, images [N, C, H, W] or codes [N, ...] -> the same; any module or function.

    r(v) - v is then about sigma^2 times the gradient of log p(v), sigma being the noise that it was trained with (Alain
    & Bengio 2014; paper 3, equation 6), and so is any other score-based denoiser's.
    offset: what is added to v before, and taken off after: 0.5 for `Pixels`, which count from grey.
    """

    denoise: Callable[[Tensor], Tensor]
    offset: float = 0.0
    name: str = "a denoiser"

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        found = self.denoise(values + self.offset)
        if found.shape != values.shape:
            raise RequestError(
                f"{self.name} turns {[*values.shape[1:]]} into {[*found.shape[1:]]}; a denoiser gives back what it gets"
            )
        return found.to(values) - self.offset

    def __repr__(self) -> str:
        return f"Learned({self.name})"


@dataclass(frozen=True, eq=False)
class Encoding:
    """E: what a network computes from images at a tap, as a code (paper 3, sections 3.3 to 3.5).

    place: of the code; behind its ReLU, as codes are. shape: of one code.
    """

    network: Network
    place: Place
    shape: tuple[int, ...]

    def __call__(self, images: Tensor) -> Tensor:
        codes = self.network.run(images, [self.place])[self.place]
        if tuple(codes.shape[1:]) != self.shape:
            raise RequestError(
                f"{self.network.name} answers with codes {[*codes.shape[1:]]} at {self.place}, but the generator takes "
                f"{[*self.shape]}"
            )
        return codes


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """r(h) = E(x), x being the image that h stands for (paper 3, section 3.5: noiseless joint PPGN-h).

    image: h -> x, as the sampler's parametrization has it (known pixels filled in: section S10).
    """

    encode: Callable[[Tensor], Tensor]
    image: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        return self.encode(self.image(values))

    def __repr__(self) -> str:
        return "Reconstruction(E(G(h)))"


@dataclass(frozen=True, eq=False)
class NoisyReconstruction:
    """r(h) = E(G(h)) as a chain of three denoising autoencoders: noise is added to h, to the image and to h_1 on its
    way through the encoder (paper 3, section 3.4: joint PPGN-h; SPEC P9).

    match: where h_1 is. sigma: of h, h_1 and x, in units of activations and of images in [0, 1].
    generators: one for each chain, so that chains do not depend on what runs beside them.
    """

    encoding: Encoding
    match: Place
    image: Callable[[Tensor], Tensor]
    sigma: tuple[float, float, float]
    generators: Sequence[torch.Generator]

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        of_code, of_match, of_image = self.sigma
        images = self._noisy(self.image(self._noisy(values, of_code)), of_image)
        network = self.encoding.network
        features = network.run(images, [self.match])[self.match]
        behind = network.beyond(self.match.tap, images)
        place = self.encoding.place
        return behind.run(self._noisy(features, of_match), [place])[place]

    def _noisy(self, values: Tensor, sigma: float) -> Tensor:
        if len(values) != len(self.generators):
            raise RequestError(f"{len(self.generators)} chains have noise of their own, but {len(values)} are denoised")
        drawn = torch.stack([torch.randn(values.shape[1:], generator=one) for one in self.generators])
        return values + sigma * drawn.to(values)

    def __repr__(self) -> str:
        return "NoisyReconstruction(h {:g}, h1 {:g}, x {:g})".format(*self.sigma)
