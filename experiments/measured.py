"""The tables of `docs/measured.md`, out of the results of `evaluation.py` and `evaluation_scenes.py`.

python experiments/measured.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preimage.images import written_whole

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "measured.md"
MARKS = {"unclear": "~", "worse": "-"}

HEAD = """# What was measured of every method

<!-- Written by experiments/measured.py from experiments/results; edit these. -->

Means and 95 % bootstrap intervals over photos, for each measure of [evaluate](evaluate.md). *~c* and *~r*: cannot be
told from the heat maps `centre` and `random` by more than chance, on the same photos; *-c* and *-r*: worse than these.
Bold: the best, and all whose interval reaches its mean. What it means: [evaluate.md](evaluate.md#what-was-measured).
"""

SECTIONS = (
    ("evaluation_squeezenet", "SqueezeNet 1.1, photographs"),
    ("evaluation_bundled", "EfficientNet-Lite0 (bundled), photographs"),
    ("evaluation_resnet50", "ResNet-50, photographs"),
    ("mosaics_squeezenet", "SqueezeNet 1.1, mosaics of four photographs"),
    ("mosaics_bundled", "EfficientNet-Lite0 (bundled), mosaics of four photographs"),
    ("mosaics_resnet50", "ResNet-50, mosaics of four photographs"),
    ("evaluation_scenes", "Scenes with known boxes and masks"),
    ("evaluation_scenes_top2", "The same scenes, the sum of the two strongest classes explained"),
    ("evaluation_parts", "Objects of two parts, of which the upper one (eyes) tells the class"),
    ("evaluation_parts_swapped", "The same upside down: the lower one (feet) tells"),
)
NOTED = "no box was enough"
SETTINGS = ("iterations", "samples", "positions", "nodes")


def main() -> None:
    parts = [HEAD]
    for name, title in SECTIONS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(section(title, json.loads(path.read_text(encoding="utf-8"))))
    with written_whole(PAGE) as file:
        file.write_text("\n".join(parts), encoding="utf-8")


def section(title: str, found: Mapping[str, Any]) -> str:
    summary = found["summary"]
    size = " x ".join(map(str, found["size"]))
    said = [f"{name} {what}" for name, one in found["methods"].items() if (what := _settings(one))]
    lines = [
        f"## {title}\n",
        f"`{found['command']}`: {found['cases']} pictures of {size} pixels. {_sentence(said)}\n",
    ]
    for measure in dict.fromkeys(one["measure"] for one in summary):
        lines += [_table(measure, [one for one in summary if one["measure"] == measure]), ""]
    if title.endswith("mosaics of four photographs"):
        lines += [_faint(found["by_probability"]), ""]
    return "\n".join(lines)


def _sentence(said: Sequence[str]) -> str:
    return f"Settings: {'; '.join(said)}." if said else "Settings as published."


def _faint(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Pictures whose class has a probability below 0.01 beside the others."""
    columns = [(kind, quantity) for kind in ("faint", "others") for quantity in found.get(kind, {})]
    head = ["by probability of the class"] + [
        f"{'below' if kind == 'faint' else 'from'} 0.01 ({found[kind][quantity]['pictures']:.0f}): {quantity}"
        for kind, quantity in columns
    ]
    methods = [one for one in found[columns[0][0]][columns[0][1]] if one != "pictures"]
    rows = [head, ["---"] * len(head)]
    rows += [[f"`{one}`", *(f"{found[kind][quantity][one]:.2f}" for kind, quantity in columns)] for one in methods]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _settings(method: Mapping[str, Any]) -> str:
    return ", ".join(f"{method[key]} {key}" for key in SETTINGS if key in method)


def _table(measure: str, some: Sequence[Mapping[str, Any]]) -> str:
    quantities = list(dict.fromkeys((one["quantity"], one["better"]) for one in some))
    methods = list(dict.fromkeys(one["method"] for one in some))
    best = {name: _best([one for one in some if one["quantity"] == name], better) for name, better in quantities}
    cells = {(one["method"], one["quantity"]): _cell(one, best[one["quantity"]]) for one in some}
    head = [f"**{measure}**", *(f"{name} ({better} is better)" if better else name for name, better in quantities)]
    rows = [head, ["---"] * len(head)]
    rows += [[f"`{method}`", *(cells.get((method, name), "") for name, _ in quantities)] for method in methods]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
    # What one has to know of a single number; the rest of the notes is in the results.
    notes = [
        f"\n- `{one['method']}`, {one['quantity']}: {note}"
        for one in some
        for note in one["notes"]
        if note.startswith(NOTED)
    ]
    return text + "".join(notes) + ("\n" if notes else "")


def _best(some: Sequence[Mapping[str, Any]], better: str | None) -> float | None:
    means = [one["mean"] for one in some if one["mean"] is not None]
    if better is None or not means:
        return None
    return max(means) if better == "higher" else min(means)


def _cell(one: Mapping[str, Any], best: float | None) -> str:
    if one["mean"] is None:
        return ""
    text = f"{one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
    if best is not None and one["low"] <= best <= one["high"]:
        text = f"**{text}**"
    marks = "".join(f" {MARKS[verdict]}{name[0]}" for name, verdict in one["against"].items() if verdict in MARKS)
    return text + marks


if __name__ == "__main__":
    main()
