"""Does the heat map change when the network forgets what it has learned? (Adebayo et al. 2018)"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from preimage.errors import RequestError
from preimage.evaluation.measure import Case, Measure, Quantity, Raw
from preimage.extras import from_extra
from preimage.network import Network, Place

_NORM_BUFFERS = frozenset({"running_mean", "running_var", "weight", "bias"})
"""What norm layers have learned without it being a parameter (the last two: frozen ones)."""
_WINDOW = 11
"""The side of SSIM's Gaussian window, sigma 1.5 cut at 3.5 of it (Wang et al. 2004)."""
_ROUNDING = 1e-4
"""Of the range of a heat map: nearer ones are the same, computed in batches of other sizes."""


@dataclass(frozen=True)
class WeightRandomisation(Measure):
    """How much the heat map resembles that of a network whose weights have been shuffled; lower is better.

    Adebayo et al. 2018, section 3.1, cascading: layers lose what they have learned one after the other, from the answer
    down, and the same is asked of the same class. A method whose heat map stays as it is explains the photo (its edges,
    its middle), not the network.

    Every weight tensor keeps its values and has them in another, random order, those of norm layers and their
    statistics too. So each layer keeps its scale, whatever its kind, and activations neither vanish nor explode in
    networks of a hundred layers (redrawn from a normal distribution, they do in a ResNet-50). Layers are those that the
    answer depends on, in the order in which the network first uses their weights.

    depths: shares of the layers that are randomised, ascending; at least one, so that 0 is the last layer alone.

    Measured by the absolute value of Spearman's rank correlation (a heat map turned round says the same), and by SSIM
    (Wang et al. 2004, Gaussian windows) of the maps brought to [0, 1]. Neither is of constant maps or, for SSIM, of
    photos smaller than 11 pixels; these do not count. Each case has a random network of its own, drawn from its seed.

    The user's network is not touched. A copy of it is kept for as long as it lives, for the next case.
    """

    name: ClassVar[str] = "weight-randomisation"
    source: ClassVar[str] = "Adebayo et al. 2018"

    depths: tuple[float, ...] = (0.0, 0.5, 1.0)

    def __post_init__(self) -> None:
        ascending = all(one < other for one, other in pairwise(self.depths))
        if not self.depths or not ascending or not (self.depths[0] >= 0 and self.depths[-1] <= 1):
            raise RequestError(f"depths are ascending shares of the layers, from 0 to 1, not {list(self.depths)}")

    def measure(self, case: Case) -> Raw:
        if not case.heatmap.isfinite().all():
            raise RequestError("the heat map has values that are not finite")
        randomised = _copy_of(case.network)
        layers = randomised.restored(case)
        generator = torch.Generator().manual_seed(case.seed % 2**32)
        done = 0
        found: dict[str, list[Any]] = {"layers": [], "rank": [], "ssim": [], "same": []}
        for depth in self.depths:
            count = max(1, round(depth * len(layers)))
            for layer in layers[done:count]:
                _shuffle(layer, generator)
            done = count
            heatmap = case.again(case.photo[None], randomised.network)[0].cpu()
            if not heatmap.isfinite().all():
                raise RequestError(f"with {count} layers randomised the heat map has values that are not finite")
            found["layers"].append(count)
            found["rank"].append(rank_correlation(case.heatmap, heatmap))
            found["ssim"].append(similarity(case.heatmap, heatmap))
            found["same"].append(_same(case.heatmap, heatmap))
        return found

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        out = []
        for what, key in (("rank correlation", "rank"), ("SSIM", "ssim")):
            for i, depth in enumerate(self.depths):
                there = [raw for raw in raws if raw is not None]
                signed = [None if raw is None else raw[key][i] for raw in raws]
                values = [abs(v) if v is not None and key == "rank" else v for v in signed]
                same = sum(raw["same"][i] for raw in there)
                left_out = sum(raw[key][i] is None for raw in there)
                notes = []
                if same:
                    notes.append(
                        f"{same} of {len(there)} heat maps stay as they were: they do not depend on these weights"
                    )
                if left_out:
                    notes.append(f"{left_out} left out, where a heat map is constant" + " or small" * (key == "ssim"))
                out.append(Quantity(f"{what}, {_said(depth)}", values, "lower", notes=tuple(notes)))
        return out


def rank_correlation(one: Tensor, other: Tensor) -> float | None:
    """Spearman's, of two heat maps [H, W], ties sharing their mean rank; None where one is constant."""
    if _is_constant(one) or _is_constant(other):
        return None
    spearmanr = from_extra("scipy.stats", "evaluation").spearmanr
    return float(spearmanr(one.double().flatten().numpy(), other.double().flatten().numpy()).statistic)


def similarity(one: Tensor, other: Tensor) -> float | None:
    """SSIM of two heat maps [H, W], each brought to [0, 1]; None where one is constant, or sides are below 11."""
    if _is_constant(one) or _is_constant(other) or min(one.shape) < _WINDOW:
        return None
    scaled = [((h - h.min()) / (h.max() - h.min())).numpy() for h in (one.double(), other.double())]
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(from_extra("skimage.metrics", "evaluation").structural_similarity(*scaled, **settings))


def _is_constant(heatmap: Tensor) -> bool:
    return bool(heatmap.min() == heatmap.max())


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two heat maps are equal up to rounding."""
    scale = float(one.max() - one.min())
    return bool((one - other).abs().max() <= _ROUNDING * scale)


def _said(depth: float) -> str:
    return "last layer" if depth == 0 else "all layers" if depth == 1 else f"top {depth:.0%}"


@torch.no_grad()
def _shuffle(layer: list[Tensor], generator: torch.Generator) -> None:
    for weight in layer:
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        weight.copy_(weight.flatten()[order].view_as(weight))


@dataclass
class _Copy:
    """A network that may be randomised, and what it is a copy of.

    orders: for what is asked, the weights of each layer that it depends on, from the answer down.
    """

    network: Network
    orders: dict[frozenset[Place], list[list[Tensor]]] = field(default_factory=dict)

    @torch.no_grad()
    def restored(self, case: Case) -> list[list[Tensor]]:
        """The user's weights are put back; what `case` asks depends on these, layer by layer from the answer down."""
        for own, users in zip(_tensors(self.network.module), _tensors(case.network.module), strict=True):
            own.copy_(users)
        places = case.objective.places()
        if places not in self.orders:
            self.orders[places] = self._layers(case)
        return self.orders[places]

    def _layers(self, case: Case) -> list[list[Tensor]]:
        owners: dict[int, int] = {}
        layers: list[list[Tensor]] = []
        for part in self.network.module.modules():
            norms = [b for name, b in part.named_buffers(recurse=False) if name in _NORM_BUFFERS]
            weights = [one for one in (*part.parameters(recurse=False), *norms) if one.is_floating_point()]
            # A tensor that two parts share is the first one's.
            layers.append([one for one in weights if owners.setdefault(id(one), len(layers)) == len(layers)])
        uses = _FirstUses(owners)
        # Before it runs, the network is looked at (its type, its taps), which is no use of any weight.
        begun = self.network.module.register_forward_pre_hook(lambda *_: uses.layers.clear())
        try:
            with self.network.held(), uses:
                self.network.run(case.photo[None], case.objective.places())
        finally:
            begun.remove()
        if not uses.layers:
            raise RequestError(
                f"{case.network.name} has no weights on which {case.objective} depends, so none to randomise"
            )
        return [layers[i] for i in reversed(uses.layers)]


class _FirstUses(TorchFunctionMode):
    """Which layers' weights are used, in the order of first use: also of modules that are never called themselves
    (within attention), and without those that are not reached."""

    def __init__(self, owners: dict[int, int]):
        super().__init__()
        self._owners = owners
        self.layers: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") != "__get__":  # whoever reads a weight's shape does not use it
            for tensor in _among((args, kwargs)):
                layer = self._owners.get(id(tensor))
                if layer is not None and layer not in self.layers:
                    self.layers.append(layer)
        return func(*args, **(kwargs or {}))


def _among(values: Any) -> Iterator[Tensor]:
    """The tensors in the arguments of a call."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _among(tuple(values.values()))
    elif isinstance(values, (tuple, list)):
        for one in values:
            yield from _among(one)


_copies: WeakKeyDictionary[Network, _Copy] = WeakKeyDictionary()


def _copy_of(network: Network) -> _Copy:
    found = _copies.get(network)
    if found is None or _described(found.network) != _described(network):
        found = _copies[network] = _Copy(_copied(network))
    return found


def _described(network: Network) -> list[object]:
    """What has to be equal for the weights of one network to fit into another."""
    return [(one.shape, one.dtype, one.device) for one in _tensors(network.module)]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _copied(network: Network) -> Network:
    # Hooks that compute a weight (spectral and weight norm) leave one with a graph behind it, which cannot be copied.
    kept = [one for part in network.module.modules() for one in vars(part).values() if isinstance(one, Tensor)]
    memo: dict[int, Any] = {id(one): one.detach().clone() for one in kept if not one.is_leaf}
    try:
        with torch.inference_mode(False):
            module = copy.deepcopy(network.module, memo)
    except Exception as error:  # the network is the user's, and so is whatever it holds
        raise RequestError(
            f"{network.name} cannot be copied, so its weights cannot be randomised ({type(error).__name__}: {error})"
        ) from error
    module.requires_grad_(False)
    return Network(
        module,
        network.input_size,
        network.mean,
        network.std,
        network.labels,
        channels=network.channels,
        logits=network.logits,
        name=f"{network.name}, randomised",
    )
