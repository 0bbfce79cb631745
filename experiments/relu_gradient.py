"""Asking before the ReLU (paper 0, section 4.3; SPEC A11, claim 5).

    python experiments/relu_gradient.py

On a start image (grey with noise), the gradient of every channel's central unit is taken behind the ReLU that its layer
ends in, and before it: at a plain layer, behind a concatenation and behind a residual addition. A unit that is off
must give exactly zero behind, and something else before. Then eight units that are off are maximized both ways. Writes
`results/relu_gradient.json`.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import networks
import preimage as pi
from figure import write_rows
from preimage.objectives import neuron

TAPS = {
    "squeezenet": (("features.1", "plain"), ("features.3", "concatenation"), ("features.9", "concatenation")),
    "resnet50": (("relu", "plain"), ("layer2.1", "addition"), ("layer4.1", "addition")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, taps in TAPS.items():
        network = pi.Network(getattr(networks, name)(), name=name)
        noise = torch.randn((1, 3, *network.input_size), generator=torch.Generator().manual_seed(0)) / 255
        for tap, kind in taps:
            image = (0.5 + noise).requires_grad_(True)
            places = [pi.Place(tap), pi.Place(tap, after_relu=True)]
            before, behind = (network.run(image, places)[place][0] for place in places)
            rows_, columns = before.shape[1:]
            before, behind = (v[:64, rows_ // 2, columns // 2] for v in (before, behind))
            off = (before < 0).nonzero().flatten().tolist()
            largest = [
                [float(torch.autograd.grad(values[i], image, retain_graph=True)[0].abs().max()) for i in off]
                for values in (before, behind)
            ]
            asked = [neuron(tap, i, after_relu=after) for after in (False, True) for i in off[:8]]
            made = pi.maximize(network, asked, recipe="unconstrained", steps=40, size="receptive-field")
            half = len(off[:8])
            rows.append(
                {
                    "network": name,
                    "tap": tap,
                    "ends_in": kind,
                    "channels": len(before),
                    "off": len(off),
                    "zero_behind": sum(g == 0 for g in largest[1]),
                    "zero_before": sum(g == 0 for g in largest[0]),
                    "smallest_gradient_before": min(largest[0]),
                    "scores_asked_before": [round(float(v), 2) for v in made.scores[:half]],
                    "scores_asked_behind": [round(float(v), 2) for v in made.scores[half:]],
                }
            )
            print(rows[-1], flush=True)
    write_rows("relu_gradient", rows)


if __name__ == "__main__":
    main()
