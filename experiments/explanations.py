"""Every method of `explain` side by side on photographs.

    python experiments/explanations.py

The bundled network's first answer to three photographs that scikit-image carries and to one of Imagenette's, all
methods with their published settings; and, for what it is worth on four photographs, how the probability falls while
what each marks most is blurred away (mean over shares of the pixels, lower is better). Writes
`docs/pictures/explanations.jpg` and `results/explanations.json`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch

import preimage as pi
from figure import write_rows
from photographs import balanced
from preimage.evaluation import deletion_curve
from preimage.images import written_whole
from preimage.objectives import label

SHEET = Path(__file__).parent.parent / "docs" / "pictures" / "explanations.jpg"


def main() -> None:
    network = pi.load()
    own = files("skimage") / "data"
    photos = [str(own / name) for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
    photos.append(str(balanced(8)[4][0]))
    made = pi.explain(network, photos, method=list(pi.methods()), enlarge=True, batch_size=4)
    with written_whole(SHEET) as file:
        made.sheet(112).save(file, quality=90)
    table = {}
    for name in pi.methods():
        some = [one for one in made if one.method == name]
        if not some:  # it has no rule for something in this network
            continue
        asked = [label(int(one.objective.split(":")[1].split(" ")[0]), "prob").bind(network) for one in some]
        shown = torch.stack([one.photo for one in some])
        curve = deletion_curve(network, shown, torch.stack([one.heatmap for one in some]), asked)
        table[name] = {"while the marked is blurred away": [round(float(x), 3) for x in (curve / curve[:, :1]).mean(1)]}
        print(name, table[name], flush=True)
    names = [Path(photo).stem if i < 3 else "Imagenette" for i, photo in enumerate(photos)]
    write_rows(
        "explanations", {"network": "bundled", "photos": names, "refused": made.settings.get("refused"), **table}
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
