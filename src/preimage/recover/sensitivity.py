"""What a layer's features answer to an image, and how that changes with the image's parameters (SPEC I6, I.4-4, I.4-5).

The Jacobian Dy, [features, parameters], is computed row by row, a few rows at a time, and multiplied with itself at
once: all that inverse feature visualization asks of it is Dy Dy^T. Where even that takes more memory than is allowed,
rows are computed again for each block of rows that fits, and the Jacobian is never there as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Answering, Network, Place, smoothed
from preimage.network.smoothing import WIDTH, computing
from preimage.objectives.directions import Aggregate, aggregated, has_maxima, maxima_width
from preimage.parametrizations import Parametrization
from preimage.priors import Kernel
from preimage.transforms import View

MEMORY = 2 * 2**30
"""Bytes that Jacobians may take, unless one says."""
MOST_BLOCKS = 32
"""Into how many blocks of rows a Jacobian is cut at most: b blocks take (b + 1) / 2 times as long as one."""
_AT_ONCE = 2**16
"""Numbers in the gradients that are computed together: small pictures many rows at a time, since there the overhead of
a pass counts, and large ones one by one (`make bench-recover`)."""
_BACK = 8
"""How often each copy of an image has to come back at least, as it goes forward once."""
Precision = Literal["double", "single"]
"""In which the network computes what is differentiated; what is done with its answers is in float64 in any case."""


@dataclass(frozen=True)
class Sensitivity:
    """response: y of each image, float64 [N, features], on the CPU. gram: Dy Dy^T, [N, features, features]. features:
    which channels of the tap these are, [features]. parameters: n_p. blocks: how many times each Jacobian was cut.

    known: how many further rows and columns of `gram` (and zeros of `response`) come after those of the features: terms
    of the objective that do not depend on what is asked of the network.
    """

    response: Tensor
    gram: Tensor
    features: Tensor
    parameters: int
    blocks: int = 1
    known: int = 0

    def __len__(self) -> int:
        return len(self.response)

    def of(self, features: Tensor | Sequence[int] | slice) -> Sensitivity:
        """The same for some of the features, by their position in `features`."""
        chosen = torch.arange(len(self.features))[list(features) if isinstance(features, tuple) else features]
        rows = torch.cat([chosen, torch.arange(self.known) + len(self.features)])
        return replace(
            self,
            response=self.response[:, rows],
            gram=self.gram[:, rows[:, None], rows],
            features=self.features[chosen],
        )

    def dead(self, share: float = 1e-8) -> Tensor:
        """Which features change with no image, bool [features]: the length of their row of Dy is at most this share of
        the longest row, for every image."""
        lengths = self.gram.diagonal(dim1=1, dim2=2)[:, : len(self.features)].clamp_min(0).sqrt()
        return (lengths <= share * lengths.amax(1, keepdim=True)).all(0)


def sensitivity(
    network: Network,
    parameters: Tensor,
    at: str | Place,
    parametrization: Parametrization,
    *,
    aggregate: Aggregate = "max-mean",
    features: Sequence[int] | None = None,
    smoothing: float | None = WIDTH,
    memory: int = MEMORY,
    average: bool = False,
    views: Sequence[View] = (),
    update_kernels: Sequence[Kernel] = (),
    known: Tensor | None = None,
    precision: Precision = "double",
) -> Sensitivity:
    """Response and Gram matrix of a tap's features for some images.

    parameters: v of each image, [N, ...]; what v stands for is `parametrization`.
    at: a tap; one that ends in a ReLU is taken before it, unless the place says otherwise.
    aggregate: how a map becomes one number per feature. features: which channels; default: all.
    smoothing: how wide the network's kinks are made, as a share of the mean size of a layer's output on each image;
        None: not at all. It should be what the images were made with (the recipe `plain`: 0.01).
    memory: bytes that Jacobians may take.
    average: the images are steps of one ascent, and the mean over them is what is stationary: gives response and Gram
        matrix of the mean response and the mean Jacobian, [1, ...].
    views: the network sees the images under each of these, and response and Jacobian are means over them: of images
        that were made under random transforms. update_kernels: rows of the Jacobian are filtered by these in turn.
    known: gradients of further terms by the parameters, [N, terms, *shape]: each becomes one more row, scaled to the
        median length of the features' rows (so that their coefficients are of one size).
    precision: "single" lets the network compute in float32, up to twice as fast on a CPU; singular values are
        then right to about 1e-6 of the largest, which is below what the best images leave (`make bench-recover`).

    Raises `RequestError` if one row of the Jacobian takes more than `memory`, for channels that the tap does not have,
    for a network in half precision, for parameters of another shape than the parametrization's, and other precisions.
    """
    if tuple(parameters.shape[1:]) != parametrization.shape or not len(parameters):
        raise RequestError(
            f"{type(parametrization).__name__} has parameters {[*parametrization.shape]} for each image, not "
            f"{list(parameters.shape[1:])}"
        )
    if precision not in get_args(Precision):
        raise RequestError(f"precision is one of {', '.join(get_args(Precision))}, not '{precision}'")
    place = at if isinstance(at, Place) else Place(at)
    channels = network.tap(place.tap).channels
    wanted = torch.arange(channels) if features is None else torch.as_tensor(list(features))
    if not len(wanted) or int(wanted.min()) < 0 or int(wanted.max()) >= channels:
        raise RequestError(f"'{place.tap}' has features 0 to {channels - 1}, not {features}")
    if len(set(wanted.tolist())) < len(wanted):
        raise RequestError(f"no feature of '{place.tap}' counts twice, but {features} were given")
    rows = _rows_that_fit(len(wanted), parameters[0].numel(), memory, place.tap, whole=average)
    # Each copy goes forward once, so that it has to come back a few times to be worth it.
    at_once = max(1, min(rows // _BACK, _AT_ONCE // parameters[0].numel()))
    at_once = -(-rows // -(-rows // at_once))  # (so that the last pass of a block has hardly fewer rows)
    dtype = torch.float64 if precision == "double" else torch.float32
    responses: list[Tensor] = []
    grams: list[Tensor] = []
    mean = torch.zeros(len(wanted), parameters[0].numel(), dtype=torch.float64) if average else None
    with computing(network, dtype):
        for i, one in enumerate(parameters.to(network.device, dtype)):
            seen = _Seen(
                network, one, at_once, place, parametrization, aggregate, wanted, smoothing, views, update_kernels
            )
            responses.append(seen.response)
            if mean is None:
                beside = None if known is None else known[i].flatten(1).to(one.device, torch.float64)
                grams.append(_gram(seen, rows, beside))
            else:
                mean += seen.rows(slice(None)).cpu() / len(parameters)
    response = torch.stack(responses)
    if mean is None:
        terms = 0 if known is None else known.shape[1]
        response = torch.cat([response, response.new_zeros(len(response), terms)], 1)
        blocks = -(-len(wanted) // rows)
        return Sensitivity(response, torch.stack(grams), wanted, parameters[0].numel(), blocks, terms)
    return Sensitivity(response.mean(0, keepdim=True), (mean @ mean.mT)[None], wanted, parameters[0].numel())


class _Seen:
    """The answers to one image, and rows of its Jacobian.

    The image goes through the network as often as rows are computed at once, and each copy is asked another feature: an
    ordinary backward pass of a batch. (`is_grads_batched` takes up to twice as long.)
    """

    def __init__(
        self,
        network: Network,
        parameters: Tensor,
        copies: int,
        place: Place,
        parametrization: Parametrization,
        aggregate: Aggregate,
        features: Tensor,
        smoothing: float | None,
        views: Sequence[View],
        update_kernels: Sequence[Kernel],
    ):
        self._parameters = copied(parameters.detach(), copies).requires_grad_(True)
        self._kernels = update_kernels

        def answers(image: Tensor) -> Tensor:
            answering: Answering = network
            if smoothing is not None:
                first = image.detach()[::copies]
                answering = smoothed(network, first, [place], smoothing, image.dtype)
            activation = answering.run(image, [place])[place]
            width = None
            if smoothing is not None and has_maxima(activation, aggregate):
                width = torch.tensor([maxima_width(activation[0], smoothing)], device=activation.device)
            return aggregated(activation, aggregate, width)[:, features.to(activation.device)]

        with torch.enable_grad():
            image = parametrization.image(self._parameters)
            self._answers = torch.stack([answers(view(image)) for view in views or [lambda one: one]]).mean(0)
        self.response = self._answers[0].detach().cpu().double()

    def rows(self, wanted: slice) -> Tensor:
        """These rows of Dy, float64 [rows, parameters]."""
        copies, features = self._answers.shape
        found = []
        for some in torch.split(torch.arange(features)[wanted], copies):
            asked = torch.zeros_like(self._answers)
            asked[torch.arange(len(some)), some] = 1.0  # (images do not see each other)
            (gradient,) = torch.autograd.grad(self._answers, self._parameters, asked, retain_graph=True)
            gradient = gradient[: len(some)]
            for kernel in self._kernels:
                gradient = kernel(gradient)
            found.append(gradient.flatten(1).double())
        return torch.cat(found)


def _gram(seen: _Seen, rows: int, known: Tensor | None) -> Tensor:
    features = len(seen.response)
    terms = 0 if known is None else len(known)
    gram = torch.empty(features + terms, features + terms, dtype=torch.float64)
    blocks = [slice(first, min(first + rows, features)) for first in range(0, features, rows)]
    for i, down in enumerate(blocks):
        one = seen.rows(down)
        gram[down, down] = _product_with_itself(one).cpu()
        if known is not None:
            product = (one @ known.mT).cpu()
            gram[down, features:], gram[features:, down] = product, product.mT
        for across in blocks[i + 1 :]:
            product = (one @ seen.rows(across).mT).cpu()
            gram[down, across], gram[across, down] = product, product.mT
    if known is not None:
        gram[features:, features:] = (known @ known.mT).cpu()
        lengths = gram.diagonal().clamp_min(0).sqrt()
        scale = torch.ones_like(lengths)
        scale[features:] = lengths[:features].median() / lengths[features:].clamp_min(1e-300)
        gram = scale[:, None] * gram * scale
    return gram


def copied(image: Tensor, copies: int) -> Tensor:
    """As a batch, channels last, which lets convolutions in float64 pass over memory in order."""
    batch = image.expand(copies, *image.shape).clone()
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch


def _product_with_itself(rows: Tensor, parts: int = 8) -> Tensor:
    """rows rows^T, of which little more than one half is computed."""
    product = rows.new_empty(len(rows), len(rows))
    step = -(-len(rows) // parts)
    for first in range(0, len(rows), step):
        block = rows[first : first + step] @ rows[first:].mT
        product[first : first + step, first:] = block
        product[first:, first : first + step] = block.mT
    return product


def _rows_that_fit(features: int, parameters: int, memory: int, tap: str, *, whole: bool) -> int:
    """How many rows of one Jacobian are held at a time; those are computed into a list before they are one tensor."""
    fit = memory // (16 * parameters)
    if fit >= features:
        return features
    if whole:
        raise RequestError(
            f"the mean Jacobian of the {features} features of '{tap}' takes {_size(16 * features * parameters)}, but "
            f"{_size(memory)} are allowed (memory=); {fit} features would fit"
        )
    rows = fit // 2  # (two blocks are there at a time)
    if rows * MOST_BLOCKS < features:
        least, most = 16 * parameters * 2 * -(-features // MOST_BLOCKS), max(fit, rows * MOST_BLOCKS)
        raise RequestError(
            f"the Jacobian of the {features} features of '{tap}' takes {_size(8 * features * parameters)}, and even in "
            f"{MOST_BLOCKS} blocks {_size(least)}, but {_size(memory)} are allowed (memory=); {most} "
            "features would fit (features=), or a smaller image"
        )
    return rows


def _size(count: int) -> str:
    return f"{count / 2**20:.3g} MiB"
