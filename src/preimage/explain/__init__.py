"""explain: which part of the photo made the answer? Learned masks, and what they are compared with (paper 4)."""

from preimage.explain.deconvnet import Deconvnet
from preimage.explain.excitation_backprop import ContrastiveExcitationBackprop, ExcitationBackprop
from preimage.explain.explaining import explain
from preimage.explain.explanation import Explanation, Explanations
from preimage.explain.extremal import Extremal
from preimage.explain.filling import Filling
from preimage.explain.grad_cam import GradCAM
from preimage.explain.gradient import Gradient
from preimage.explain.guided_backprop import GuidedBackprop
from preimage.explain.integrated_gradients import IntegratedGradients
from preimage.explain.mask import HybridMask, Mask, PreservingMask
from preimage.explain.method import Found, Method, Question
from preimage.explain.methods import Methods, find_method, methods
from preimage.explain.occlusion import Occlusion
from preimage.explain.published import PUBLISHED_MASKS
from preimage.explain.rise import RISE
from preimage.explain.smoothgrad import SmoothGrad
from preimage.explain.soft_occlusion import BlurOcclusion, VariableOcclusion

__all__ = [
    "PUBLISHED_MASKS",
    "RISE",
    "BlurOcclusion",
    "ContrastiveExcitationBackprop",
    "Deconvnet",
    "ExcitationBackprop",
    "Explanation",
    "Explanations",
    "Extremal",
    "Filling",
    "Found",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "HybridMask",
    "IntegratedGradients",
    "Mask",
    "Method",
    "Methods",
    "Occlusion",
    "PreservingMask",
    "Question",
    "SmoothGrad",
    "VariableOcclusion",
    "explain",
    "find_method",
    "methods",
]
