"""Table S3's analogue on a judge that reads its answer off the image, so that every number is known."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from explained import uniform
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.evaluation.diversity import diversity
from preimage.evaluation.inception_score import inception_score
from preimage.evaluation.judging import judged
from preimage.evaluation.sample_table import sample_table

SIDE, CLASSES = 16, 4


class Reader(nn.Module):
    """Answers the class whose pixel in the first row is brightest, and surely."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :CLASSES] * 1000


def reader() -> Network:
    return Network(Reader(), SIDE, channels=3, name="reader")


def answered(classes: list[int], seed: int = 0) -> Tensor:
    images = uniform(seed, len(classes), 3, SIDE, SIDE)
    images[:, 0, 0, :CLASSES] = F.one_hot(torch.tensor(classes), CLASSES).float()
    return images


def test_what_is_right_is_counted_by_class() -> None:
    asked = [0] * 4 + [1] * 4 + [2] * 4
    seen = [0, 0, 0, 0, 1, 1, 3, 3, 0, 1, 2, 3]
    table = sample_table(reader(), {"real": (answered(asked), asked), "made": (answered(seen), asked)}, splits=2)
    assert table["real"].accuracies == (1.0, 1.0, 1.0) and table["real"].accuracy == 1
    assert table["made"].accuracies == (1.0, 0.5, 0.25) and table["made"].accuracy == pytest.approx(7 / 12)
    assert table["made"].counts == (4, 4, 4) and table["made"].size == (SIDE, SIDE)


def test_rows_are_what_the_measures_say() -> None:
    asked = [0, 1, 2, 3] * 5
    sets = {"real": (answered(asked), asked), "made": (answered([0] * 20, 1), torch.tensor(asked))}
    table = sample_table(reader(), sets, splits=3, pairs=4, seed=5)
    for name, (images, classes) in sets.items():
        row = table[name]
        assert row.diversity == diversity(images, classes, pairs=4, seed=5)
        assert (row.score, row.score_deviation) == inception_score(judged(reader(), images), 3, 5)
        assert row.more_diverse == row.diversity.more_diverse(table["real"].diversity)
    assert table["made"].score == pytest.approx(1)
    assert table["real"].score > 2
    assert table["real"].share_more_diverse == 3 / 4


def test_the_least_diverse_real_class_is_the_mark() -> None:
    """Copies of one image are the least diverse of all: none of them is below any mark but their own."""
    asked = [0] * 5 + [1] * 5
    copies = answered([0]).repeat(10, 1, 1, 1)
    half = torch.cat([copies[:5], answered([1] * 5, 3)])
    table = sample_table(
        reader(), {"real": (answered(asked, 1), asked), "copies": (copies, asked), "half": (half, asked)}, splits=1
    )
    assert table["copies"].more_diverse == 0
    turned = sample_table(reader(), {"real": (half, asked), "other": (answered(asked, 1), asked)}, splits=1)
    assert turned["real"].more_diverse == 1 and turned["other"].more_diverse == 2


def test_rows_of_different_sizes_compare_at_the_smaller_s_scales() -> None:
    asked = [0, 0, 1, 1]
    large = answered(asked).repeat_interleave(4, 2).repeat_interleave(4, 3)
    table = sample_table(reader(), {"real": (large, asked), "small": (answered(asked), asked)}, splits=1)
    assert [row.diversity.scales for row in table.rows] == [1, 1]
    assert table["real"].size == (4 * SIDE, 4 * SIDE)


def test_json_and_print() -> None:
    asked = [0, 0, 2, 2]
    sets = {"photos": (answered(asked), asked), "made": (answered([0, 1, 2, 3]), asked)}
    table = sample_table(reader(), sets, real="photos", splits=1)
    said = table.as_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["judge"] == "reader" and said["real"] == "photos"
    made = said["rows"][1]
    assert (made["name"], made["images"], made["accuracy"], made["size"]) == ("made", 4, 0.5, [SIDE, SIDE])
    assert [(c["class"], c["images"], c["accuracy"], c["pairs"]) for c in made["classes"]] == [
        (0, 2, 0.5, 1),
        (2, 2, 0.5, 1),
    ]
    lines = str(table).splitlines()
    assert len(lines) == 4 and "accuracy by reader" in lines[0]
    assert lines[3].startswith(f"| made | {SIDE} x {SIDE} | 50.0% |") and lines[2].endswith("| 1 / 2 |")


def test_a_judge_sees_images_at_its_own_size() -> None:
    torch.manual_seed(0)
    judge = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3)), 8, channels=3)
    images = uniform(0, 5, 3, 20, 20)
    resized = F.interpolate(images, (8, 8), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        expected = judge.module(resized).softmax(1)
    torch.testing.assert_close(judged(judge, images, 2), expected)


def test_what_makes_no_table_is_said() -> None:
    asked = [0, 0, 1, 1]
    good = (answered(asked), asked)
    with pytest.raises(RequestError, match="no set of images is called 'real'; real= names the real one of photos"):
        sample_table(reader(), {"photos": good})
    with pytest.raises(RequestError, match="reader has classes 0 to 3, not 9 as in 'made'"):
        sample_table(reader(), {"real": good, "made": (good[0], [0, 0, 9, 9])}, splits=1)
    with pytest.raises(RequestError, match=r"a judge is a preimage\.Network"):
        judged(Reader(), good[0])  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="does not classify: its answer has 1 numbers"):
        judged(Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 1)), SIDE, channels=3), good[0])
    with pytest.raises(RequestError, match=r"not \[3, 16, 16\]"):
        judged(reader(), good[0][0])
    with pytest.raises(KeyError):
        sample_table(reader(), {"real": good}, splits=1)["made"]
