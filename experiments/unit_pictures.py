"""Does a unit answer its own picture more strongly than every other unit's? Recipe `default` against `unit`.

    python experiments/unit_pictures.py

All units of three low layers of the bundled network, one position of the map each, on a canvas of their receptive
field. `own`: the share of units whose own picture is, of all pictures of that layer, the one they answer most strongly.
Under the wide and mirrored views of `default` an oriented edge becomes a symmetrical wedge. About 2 minutes on one
core.
Writes `results/unit_pictures.json` and `docs/pictures/unit-recipe.png`.
"""

from __future__ import annotations

from pathlib import Path

import torch

import preimage as pi
from figure import pictures_in_rows, write_rows

LAYERS = {"stage1": 8, "stage2": 24, "stage3": 80}
RECIPES = ("default", "unit")
SHOWN = 10
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "unit-recipe.png"


def main() -> None:
    torch.set_num_threads(1)
    network = pi.load("bundled")
    rows, cells = [], []
    for tap, side in LAYERS.items():
        count = network.tap(tap).channels
        for recipe in RECIPES:
            asked = [f"{tap}:{i}@centre" for i in range(count)]
            made = pi.maximize(network, asked, recipe=recipe, size=side, progress=False)
            place = pi.Place(tap)
            with torch.no_grad():
                maps = network.run(made.images, [place])[place]
            answers = maps[:, :, (maps.shape[2] - 1) // 2, (maps.shape[3] - 1) // 2]
            own = (answers.argmax(0) == torch.arange(count)).double().mean()
            rows.append({"tap": tap, "recipe": recipe, "units": count, "own": round(float(own), 3)})
            rows[-1]["mean score"] = round(float(made.scores.mean()), 1)
            cells.append((f"{tap}\n{recipe}", [(image, "") for image in made.images[:SHOWN]]))
            print(rows[-1], flush=True)
    write_rows("unit_pictures", {"command": "python experiments/unit_pictures.py", "rows": rows})
    pictures_in_rows(cells, PICTURE, inches=0.9)


if __name__ == "__main__":
    main()
