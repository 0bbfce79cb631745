"""sample: what are the many images that would be answered so? (paper 3)"""

from preimage.sample.chain import Chain
from preimage.sample.conditions import Condition
from preimage.sample.prior import Prior, load_prior
from preimage.sample.samplers import SAMPLERS, Sampler
from preimage.sample.sampling import sample

__all__ = ["SAMPLERS", "Chain", "Condition", "Prior", "Sampler", "load_prior", "sample"]
