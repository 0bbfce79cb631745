"""Grad-CAM (SPEC M13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from preimage.explain.gradient import with_gradient
from preimage.explain.layers import activations, at_photo_size, check_behind, grad_cam_layer, layer_place
from preimage.explain.method import Found, Method, Question


@dataclass(frozen=True)
class GradCAM(Method):
    """Where the channels of a late layer that speak for the answer are active.

    Selvaraju et al. 2017: ReLU(sum_k alpha_k A_k), A_k the activations of channel k behind their ReLU and alpha_k the
    mean over positions of d score / d A_k; bilinear to the photo's size, [N, H, W], not negative.

    at: the layer; default: the last with positions that are not class scores yet (`layer4` of a ResNet; paper 4 takes
        inception_5b, SPEC M.5-14). Any objective behind it.
    """

    name: ClassVar[str] = "grad-cam"
    source: ClassVar[str] = "Selvaraju et al. 2017; paper 4, SPEC M13"

    at: str | None = None

    def explain(self, asked: Question) -> Found:
        network, objective = asked.network, asked.together()
        with network.held():
            place = layer_place(network, self.at or grad_cam_layer(network, objective))
            values = with_gradient(activations(asked, place))
            with torch.enable_grad():
                scores = objective.score(network.beyond(place.tap, asked.photos).run(values, objective.places()))
                score = scores.sum()
            check_behind(score, asked, place)
            gradient = torch.autograd.grad(score, values)[0]
        weights = gradient.mean((2, 3), keepdim=True)
        maps = (weights * values.detach()).sum(1).clamp(min=0)
        details = [{"at": place.tap} for _ in range(len(asked))]
        return Found(at_photo_size(maps, asked.size), scores={"photo": scores.detach()}, details=details)
