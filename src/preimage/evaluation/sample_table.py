"""Sampled images beside real ones: how recognisable, and how diverse (paper 3, table S3; SPEC P24)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.diversity import PAIRS, Diversity, classes_of, diversity
from preimage.evaluation.inception_score import SPLITS, inception_score
from preimage.evaluation.judging import judged
from preimage.evaluation.ms_ssim import scales_that_fit
from preimage.network import Network


@dataclass(frozen=True)
class SampleRow:
    """What is measured of one set of images.

    name: what they are. size: (height, width). counts, accuracies: of each class of `diversity.classes`: how many
    images there are, and the share of them whose first answer is that class. accuracy: of all images. score,
    score_deviation: the inception score's analogue, by the judge. diversity: MS-SSIM within each class. more_diverse:
    how many classes are more diverse than the least diverse real one.
    """

    name: str
    size: tuple[int, int]
    counts: tuple[int, ...]
    accuracies: tuple[float, ...]
    accuracy: float
    score: float
    score_deviation: float
    diversity: Diversity
    more_diverse: int

    @property
    def share_more_diverse(self) -> float:
        """`more_diverse` as a share of the classes, 0 to 1."""
        return self.more_diverse / len(self.counts)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types: the row, and in `classes` what it is made of."""
        within = self.diversity.as_dict()
        of_each = zip(within.pop("classes"), self.counts, self.accuracies, strict=True)
        return {
            "name": self.name,
            "size": list(self.size),
            "images": sum(self.counts),
            "accuracy": self.accuracy,
            "inception_score": self.score,
            "inception_score_deviation": self.score_deviation,
            **within,
            "more_diverse": self.more_diverse,
            "share_more_diverse": self.share_more_diverse,
            "classes": [{**one, "images": count, "accuracy": right} for one, count, right in of_each],
        }


@dataclass(frozen=True)
class SampleTable:
    """Table S3's analogue. judge: the network that classified. real: the name of the row of real images."""

    judge: str
    real: str
    rows: tuple[SampleRow, ...]

    def __getitem__(self, name: str) -> SampleRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def __str__(self) -> str:
        lines = [f"| | size | accuracy by {self.judge} | inception score | MS-SSIM | classes more diverse |"]
        lines.append("|---|---|---|---|---|---|")
        for row in self.rows:
            within = row.diversity
            lines.append(
                f"| {row.name} | {row.size[0]} x {row.size[1]} | {row.accuracy:.1%} "
                f"| {row.score:.2f} ± {row.score_deviation:.2f} | {within.mean:.3f} ± {within.deviation:.3f} "
                f"| {row.more_diverse} / {len(row.counts)} |"
            )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"judge": self.judge, "real": self.real, "rows": [row.as_dict() for row in self.rows]}


def sample_table(
    judge: Network,
    sets: Mapping[str, tuple[Tensor, Tensor | Sequence[int]]],
    *,
    real: str = "real",
    pairs: int = PAIRS,
    splits: int = SPLITS,
    seed: int = 0,
) -> SampleTable:
    """Measure sets of images, one of which is real.

    judge: a network that took no part in making the images. sets: by name, images float [N, C, H, W] in [0, 1] and the
        class of each, numbered as the judge numbers them. real: which set is real. pairs: see `diversity`. splits: see
        `inception_score`; give sets of equal numbers of images, for scores to compare.

    MS-SSIM takes as many scales as the smallest of all images allow, so that the rows compare.

    Raises `RequestError` where there is no real set, for classes that the judge does not have, and for other shapes.
    """
    if real not in sets:
        raise RequestError(f"no set of images is called '{real}'; real= names the real one of {', '.join(sets)}")
    labels = {name: classes_of(images, classes) for name, (images, classes) in sets.items()}
    scales = min(scales_that_fit(*images.shape[2:]) for images, _ in sets.values())
    within = {
        name: diversity(images, labels[name], pairs=pairs, scales=scales, seed=seed)
        for name, (images, _) in sets.items()
    }
    rows = []
    for name, (images, _) in sets.items():
        answers = judged(judge, images)
        if labels[name].max() >= answers.shape[1]:
            last = answers.shape[1] - 1
            raise RequestError(f"{judge.name} has classes 0 to {last}, not {int(labels[name].max())} as in '{name}'")
        right = (answers.argmax(1) == labels[name]).double()
        own = [right[labels[name] == label] for label in within[name].classes]
        score, deviation = inception_score(answers, splits, seed)
        height, width = images.shape[2:]
        rows.append(
            SampleRow(
                name,
                (height, width),
                tuple(len(one) for one in own),
                tuple(float(one.mean()) for one in own),
                float(right.mean()),
                score,
                deviation,
                within[name],
                within[name].more_diverse(within[real]),
            )
        )
    return SampleTable(judge.name, real, tuple(rows))
