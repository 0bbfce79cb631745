"""The picture of the README: twelve classes of the bundled network, `python experiments/front_page.py`."""

from __future__ import annotations

from pathlib import Path

import preimage as pi
from preimage.report.sheet import contact_sheet

CLASSES = (
    "goldfish",
    "macaw",
    "hammerhead",
    "tabby",
    "monarch",
    "agaric",
    "fire engine",
    "castle",
    "daisy",
    "strawberry",
    "pirate",
    "volcano",
)


def main() -> None:
    net = pi.load()
    known = set(net.labels or ())
    assert known.issuperset(CLASSES), [name for name in CLASSES if name not in known]
    result = pi.maximize(net, [f"class:{name}" for name in CLASSES])
    to = Path(__file__).parents[1] / "docs" / "pictures" / "front-page.jpg"
    to.parent.mkdir(exist_ok=True)
    contact_sheet(result, columns=6, side=200).save(to, quality=88)


if __name__ == "__main__":
    main()
