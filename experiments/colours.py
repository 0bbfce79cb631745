"""Where the colour matrix of photographs comes from: `python experiments/colours.py` prints it.

It is measured on the 2,479 Imagenette photographs, and stands in `preimage.parametrizations.PHOTOGRAPHS`.
"""

from __future__ import annotations

import networks
from preimage.images import read_image
from preimage.parametrizations import PHOTOGRAPHS, measured_colours


def main() -> None:
    measured = measured_colours(read_image(path) for path, _ in networks.photographs())
    print("measured\n", measured)
    print("in use\n", PHOTOGRAPHS)


if __name__ == "__main__":
    main()
