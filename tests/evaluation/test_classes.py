"""Which class of a network a label of a data set means."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from preimage import Network, RequestError
from preimage.evaluation.asked import questions
from preimage.evaluation.classes import imagenet_wnids, match_classes, read_mapping
from preimage.evaluation.data import Example
from preimage.network.loading import imagenet_labels

WNIDS = {"n02102040": 217, "n03000684": 491, "n01440764": 0, "n03888257": 701}


def imagenet() -> Network:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 1000))
    return Network(module, (2, 2), channels=3, labels=imagenet_labels(), name="imagenet")


def small(labels: list[str] | None = None, outputs: int = 4) -> Network:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, outputs))
    return Network(module, (2, 2), channels=3, labels=labels, name="small")


def test_wnids_are_in_the_order_of_the_classes() -> None:
    wnids = imagenet_wnids()
    assert len(set(wnids)) == 1000 and list(wnids) == sorted(wnids)
    assert {wnid: wnids.index(wnid) for wnid in WNIDS} == WNIDS
    names = imagenet_labels()
    assert [names[WNIDS[one]] for one in WNIDS] == ["English springer", "chain saw", "tench", "parachute"]


def test_wnids_names_and_numbers() -> None:
    found = match_classes(imagenet(), ["n02102040", "tench", "701", "Chain_Saw", "n01440764", "tench"])
    assert found == {"n02102040": 217, "tench": 0, "701": 701, "Chain_Saw": 491, "n01440764": 0}
    assert list(found) == ["n02102040", "tench", "701", "Chain_Saw", "n01440764"]
    assert match_classes(imagenet(), WNIDS) == WNIDS
    assert match_classes(imagenet(), imagenet_wnids()) == {wnid: i for i, wnid in enumerate(imagenet_wnids())}


def test_a_mapping_goes_first() -> None:
    mapping = {"tench": "n03000684", "saw": 491, "3": "tench", "fish": " 0 ", "unused": "no class at all"}
    assert match_classes(imagenet(), ["tench", "saw", "3", "fish", "goldfish"], mapping) == {
        "tench": 491,
        "saw": 491,
        "3": 0,
        "fish": 0,
        "goldfish": 1,
    }


def test_wnids_mean_nothing_to_other_networks() -> None:
    """But a network may be called so itself."""
    for other in (small(), small(["a", "b", "c", "d"]), small(outputs=1000)):
        with pytest.raises(RequestError, match="1 of 1 labels have no class in small"):
            match_classes(other, ["n01440764"])
    assert match_classes(small(["n01440764", "n01443537", "c", "d"]), ["n01443537"]) == {"n01443537": 1}


def test_all_labels_without_a_class_are_told_together() -> None:
    labels = ["tench", "tenhc", "4", "-1", "a", *[f"unheard of {i}" for i in range(10)]]
    with pytest.raises(RequestError) as caught:
        match_classes(small(["tench", "goldfish", "shark", "hen"]), labels)
    said = str(caught.value)
    assert said.startswith("14 of 15 labels have no class in small: ")
    assert "small has no class 'tenhc'; the nearest are class:0 (tench)" in said
    assert "small has classes 0 to 3, not 4" in said and "not -1" in said
    assert "; and 9 more; a CSV file with the columns label,class can say which are meant" in said
    assert "unheard of 3" not in said and "\n" not in said


def test_an_ambiguous_name_is_told_with_its_candidates() -> None:
    with pytest.raises(RequestError, match=r"class 'crane' is ambiguous: class:134 \(.*\), class:517 \("):
        match_classes(imagenet(), ["crane"])


def test_a_mapping_to_no_class_says_that_it_is_the_mapping_s() -> None:
    with pytest.raises(RequestError, match=r"not 4 \(the mapping's class for 'fish'\)"):
        match_classes(small(["tench", "goldfish", "shark", "hen"]), ["fish"], {"fish": 4})


def test_networks_without_names_take_numbers_only() -> None:
    assert match_classes(small(), ["0", "3"]) == {"0": 0, "3": 3}
    with pytest.raises(RequestError, match=r"2 of 3 labels .* comes without class names"):
        match_classes(small(), ["tench", "0", "hen"])


def test_nothing_is_matched_to_nothing() -> None:
    assert match_classes(small(), []) == {}


def test_a_mapping_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text('label,class\nfish,0\n"saw, chain",chain saw\ndog, n02102040 \nfish,0\n')
    mapping = read_mapping(path)
    assert mapping == {"fish": "0", "saw, chain": "chain saw", "dog": "n02102040"}
    assert match_classes(imagenet(), mapping, mapping) == {"fish": 0, "saw, chain": 491, "dog": 217}


def test_all_faulty_lines_of_a_mapping_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("label,class\nfish,0\nfish,1\n,3\ncat,1,2\n")
    with pytest.raises(RequestError) as caught:
        read_mapping(path)
    said = str(caught.value)
    assert "line 3 says that 'fish' is '1', after '0'" in said
    assert all(f"line {line} is not a label and a class" in said for line in (4, 5))


@pytest.mark.parametrize("text", ["fish,0\n", "", "label,class,score\nfish,0,1\n"])
def test_a_mapping_of_another_kind(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(RequestError, match="a file of classes starts with label,class"):
        read_mapping(tmp_path / "classes.csv")
    with pytest.raises(RequestError, match="there is no file"):
        read_mapping(tmp_path / "none.csv")


def test_a_label_that_means_nothing_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("label,class\nfish,0\nunheard of,\n")
    mapping = read_mapping(path)
    assert match_classes(imagenet(), ["unheard of", "fish"], mapping) == {"fish": 0}
    examples = [Example(Path("a.jpg"), ("fish", "unheard of")), Example(Path("b.jpg"), ("unheard of",))]
    assert [(one.example.path.name, one.label) for one in questions(examples, {"fish": 0})] == [("a.jpg", "fish")]
