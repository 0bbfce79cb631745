"""Every sentence of the papers that we put to the test: does it hold here, and by which numbers?

    python experiments/claims.py            # writes docs/claims.md
    python experiments/claims.py --check    # writes nothing; exit 1 if the page is stale

What experiments wrote to `experiments/results/*.json` under "claims" is put together; nothing is measured here. Each
criterion was fixed before its experiment ran, and stands in those files beside the sentence.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figure import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "claims.md"
GROUPS = {
    "inverse_E": "Paper 1: inverse feature visualization",
    "sampling_": "Paper 3: plug & play generative networks",
}
ANSWERS = {True: "yes", False: "**no**", None: "not decided"}
LONGEST = 160


@dataclass(frozen=True)
class Told:
    """One claim: where it is from, what was found."""

    source: str
    command: str
    sentence: str
    holds: bool | None
    numbers: Mapping[str, Any]


def told(path: Path) -> Iterator[Told]:
    """The claims in one file of results."""
    content = json.loads(path.read_text())
    name = path.stem.removeprefix("inverse_").removeprefix("sampling_")
    command = content.get("command", f"python experiments/{path.stem}.py")
    listed = content["claims"]
    by_part = listed if isinstance(listed, dict) else {"": listed}
    for part, claims in by_part.items():
        for one in claims:
            numbers = one["numbers"] if "numbers" in one else one["found"]
            yield Told(f"{name}, {part}" if part else name, command, one["sentence"], one["holds"], numbers)


def page(results: Path = RESULTS) -> str:
    """The whole page."""
    parts, counts = [], Counter[bool | None]()
    for beginning, heading in GROUPS.items():
        files = [path for path in results.glob(f"{beginning}*.json") if '"claims"' in path.read_text()]
        rows = [one for path in sorted(files, key=_order) for one in told(path)]
        if not rows:
            continue
        counts.update(one.holds for one in rows)
        commands = sorted({one.command for one in rows}, key=_natural)
        parts += [
            f"## {heading}\n",
            "| | holds | numbers |\n|---|---|---|",
            "\n".join(_row(one) for one in rows),
            "\nMade by\n",
            "\n".join(f"    {command}" for command in commands) + "\n",
        ]
    whole = sum(counts.values())
    head = (
        "# Do the papers' sentences hold here?\n\n"
        "Written by `python experiments/claims.py` from what the experiments wrote; the criterion of each answer,\n"
        "fixed before the experiment first ran, stands beside it in `experiments/results`. Published numbers beside\n"
        "ours are in [ledger.md](ledger.md). A *no* is a finding about these networks, not the paper's.\n"
        "Goals of this project are among them; captions, and the goals, are judged with settings that were tuned.\n\n"
        f"Of {whole} answers {counts[True]} are yes, {counts[False]} no, and {counts[None]} are not decided by what "
        "was measured.\n"
    )
    return "\n".join([head, *parts])


def _row(one: Told) -> str:
    numbers = "; ".join(_said(name, value) for name, value in one.numbers.items())
    if len(numbers) > LONGEST:
        numbers = numbers[: numbers.rindex(";", 0, LONGEST) if ";" in numbers[:LONGEST] else LONGEST] + " ..."
    cells = (f"{one.source}: {one.sentence}", ANSWERS[one.holds], numbers)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _said(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{name}: " + ", ".join(_said(inner, one) for inner, one in value.items())
    if isinstance(value, float):
        return f"{name} {value:.3g}"
    if isinstance(value, list):
        return f"{name} " + ", ".join(f"{one:.3g}" if isinstance(one, float) else str(one) for one in value)
    return f"{name} {value}"


def _order(path: Path) -> list[Any]:
    return _natural(path.stem)


def _natural(text: str) -> list[Any]:
    """E9 before E10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    asked = parser.parse_args(arguments)
    text = page()
    if not asked.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/claims.md is stale: run python experiments/claims.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
