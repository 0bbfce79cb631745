"""Objectives as one types them: every form, what each is the same as in Python, and what malformed text is told."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, Place, RequestError, UnknownTapError
from preimage.objectives import Channel, Label, Objective, Unit, channel, label, neuron, parse, resolve, unit

LABELS = ("tabby, tabby cat", "crane (bird)", "crane (machine)", "great_white_shark", "7up", "Egyptian cat")


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.layer3 = nn.ModuleList([nn.Conv2d(3, 2, 1), nn.Sequential(nn.Conv2d(2, 12, 1), nn.ReLU())])
        self.fc = nn.Linear(12, 6)

    def forward(self, images: Tensor) -> Tensor:
        out = self.stem(images)
        for layer in self.layer3:
            out = layer(out)
        return self.fc(out.mean((2, 3)))


torch.manual_seed(0)
NET = Network(_Tiny(), 4, labels=LABELS)
UNNAMED = Network(_Tiny(), 4)


def one(index: int, name: str) -> Label:
    return Label(index, "logit", name)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("layer3.1:7", [channel("layer3.1", 7)]),
        ("layer3.1:007", [channel("layer3.1", 7)]),
        ("layer3.1:2-4", [channel("layer3.1", i) for i in (2, 3, 4)]),
        ("layer3.1:4-4", [channel("layer3.1", 4)]),
        ("layer3.1:*", [channel("layer3.1", i) for i in range(12)]),
        ("layer3.1:7@2,3", [unit("layer3.1", 7, 2, 3)]),
        ("layer3.1:7@2 , 3", [unit("layer3.1", 7, 2, 3)]),
        ("layer3.1:1-2@0,0", [unit("layer3.1", 1, 0, 0), unit("layer3.1", 2, 0, 0)]),
        ("layer3.0:*@3,1", [unit("layer3.0", 0, 3, 1), unit("layer3.0", 1, 3, 1)]),
        ("layer3.1:7@centre", [neuron("layer3.1", 7)]),
        ("stem:*@centre", [neuron("stem", i) for i in range(3)]),
        ("after:layer3.1:7", [channel("layer3.1", 7, after_relu=True)]),
        ("after:layer3.1:7@1,0", [unit("layer3.1", 7, 1, 0, after_relu=True)]),
        ("after:layer3.1:3-4@centre", [neuron("layer3.1", i, after_relu=True) for i in (3, 4)]),
        ("output:5", [channel("output", 5)]),
        ("fc:5@centre", [neuron("fc", 5)]),
    ],
)
def test_units_and_channels(text: str, same: list[Objective]) -> None:
    assert parse(text, NET) == same
    assert resolve(text, NET) == same


@pytest.mark.parametrize(
    ("text", "index", "kind"),
    [
        ("class:0", 0, "logit"),
        ("logit:0", 0, "logit"),
        ("prob:5", 5, "prob"),
        ("logprob:5", 5, "logprob"),
        ("class: 5 ", 5, "logit"),
        ("class:tabby", 0, "logit"),
        ("class:tabby cat", 0, "logit"),
        ("class:tabby_cat", 0, "logit"),
        ("class:tabby, tabby cat", 0, "logit"),
        ("class:TABBY", 0, "logit"),
        ("class:  tabby   cat ", 0, "logit"),
        ("prob:Great White Shark", 3, "prob"),
        ("logprob:great_white_shark", 3, "logprob"),
        ("class:crane (bird)", 1, "logit"),
        ("class:CRANE_(machine)", 2, "logit"),
        ("class:7up", 4, "logit"),
        ("class:egyptian_CAT", 5, "logit"),
    ],
)
def test_classes_by_number_and_name(text: str, index: int, kind: str) -> None:
    assert parse(text, NET) == [Label(index, kind, LABELS[index], Place("output", True))]  # type: ignore[arg-type]
    assert parse(text, NET) == [label(index, kind).bind(NET)]  # type: ignore[arg-type]


def test_classes_by_number_need_no_names() -> None:
    assert parse("class:3", UNNAMED) == [label(3).bind(UNNAMED)]
    with pytest.raises(RequestError, match="without class names"):
        parse("class:tabby", UNNAMED)


@given(st.sampled_from(["stem", "layer3.0", "layer3.1"]), st.booleans(), st.integers(0, 1), st.none() | st.just("c"))
@settings(max_examples=20, deadline=None)
def test_what_an_objective_prints_parses_into_it(tap: str, after: bool, index: int, at: str | None) -> None:
    for asked in (channel(tap, index, after_relu=after), neuron(tap, index, after_relu=after)):
        assert parse(str(asked), NET) == [asked]
    asked_at = unit(tap, index, 3 * index, 2, after_relu=after)
    assert parse(str(asked_at), NET) == [asked_at]


@pytest.mark.parametrize(
    ("text", "character"),
    [
        ("", 1),
        ("stem", 5),
        ("after:stem", 11),
        ("class:", 7),
        ("prob:   ", 9),
        ("stem:", 6),
        ("stem:x", 6),
        ("stem:-1", 6),
        ("stem:1-", 6),
        ("stem:1-x", 6),
        ("stem:1.5", 6),
        ("stem: 1", 6),
        ("stem:**", 6),
        ("stem:2-1", 6),
        ("stem:@1,1", 6),
        ("after:stem:x", 12),
        ("stem:1@", 8),
        ("stem:1@1", 8),
        ("stem:1@1,", 8),
        ("stem:1@,1", 8),
        ("stem:1@-1,1", 8),
        ("stem:1@1,1,1", 8),
        ("stem:1@center", 8),
        ("stem:0-1@y,x", 10),
        ("after:stem:0@1;1", 14),
        ("stem:0@1,1@1,1", 8),
        (":1", 1),
        ("after::1", 7),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, character: int) -> None:
    with pytest.raises(RequestError) as caught:
        parse(text, NET)
    said = str(caught.value)
    assert f"objective '{text}'" in said
    found = re.search(r"at character (\d+)", said)
    assert found, said
    assert int(found[1]) == character, said


def test_a_range_the_wrong_way_round_is_shown_the_right_way() -> None:
    with pytest.raises(RequestError, match="1-2"):
        parse("stem:2-1", NET)


@pytest.mark.parametrize("text", ["stem:3", "stem:0-3", "stem:3-9", "after:stem:3@0,0", "stem:99999999999999999999"])
def test_channels_that_are_not_there_say_the_range(text: str) -> None:
    with pytest.raises(RequestError, match="'stem' has channels 0 to 2"):
        parse(text, NET)


@pytest.mark.parametrize("text", ["stem:0-99999999999", "stem:0-99999999999999999999999", "stem:1-9999999999@1,1"])
def test_a_huge_range_is_refused_without_counting_it_out(text: str) -> None:
    with pytest.raises(RequestError, match="channels 0 to 2"):  # a list of them would need 800 GB
        parse(text, NET)


@pytest.mark.parametrize("text", ["class:6", "prob:1000", "class:99999999999999999999"])
def test_classes_that_are_not_there_say_the_range(text: str) -> None:
    with pytest.raises(RequestError, match="classes 0 to 5"):
        parse(text, NET)


@pytest.mark.parametrize("text", [f"stem:{'9' * 5000}", f"class:{'9' * 5000}", f"stem:0@{'9' * 5000},0"])
def test_numbers_too_long_for_python_to_convert_are_refused_like_others(text: str) -> None:
    with pytest.raises(RequestError):
        parse(text, NET)


@pytest.mark.parametrize("text", ["layer3:1", "laier3.1:1", "after:stemm:0", "nope:3"])
def test_unknown_taps(text: str) -> None:
    with pytest.raises(UnknownTapError, match="no tap"):
        parse(text, NET)


def test_an_unknown_tap_names_the_nearest() -> None:
    with pytest.raises(UnknownTapError, match=r"layer3\.1"):
        parse("layer3-1:0", NET)


def test_an_ambiguous_class_lists_all_candidates() -> None:
    with pytest.raises(RequestError, match="ambiguous") as caught:
        parse("class:crane", NET)
    assert "class:1 (crane (bird))" in str(caught.value)
    assert "class:2 (crane (machine))" in str(caught.value)
    assert "tabby" not in str(caught.value)


def test_an_unknown_class_lists_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"no class 'shark'.*class:3 \(great_white_shark\)"):
        parse("class:shark", NET)
    with pytest.raises(RequestError, match=r"class:0 \(tabby, tabby cat\)"):
        parse("class:tabbi cat", NET)


def test_a_position_outside_a_layer_without_any_is_refused() -> None:
    with pytest.raises(RequestError, match="'fc' has no positions"):
        parse("fc:0@1,1", NET)


pieces = st.sampled_from(
    ["stem", "layer3.1", "fc", "output", "class", "prob", "logprob", "logit", "after", "tabby", "crane", "centre"]
    + [":", ":", "-", "*", "@", ",", ".", " ", "_", "#", "[", "0", "1", "12", "-1", "²", "٣", "1e3", "\n", "\x00"]
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20) | st.lists(pieces, max_size=8).map("".join))
@example("stem:٣")
@example("class:²")
@example("stem:0@²,0")
def test_any_text_is_either_read_or_refused_as_a_request(text: str) -> None:
    with suppress(RequestError):
        asked = parse(text, NET)
        assert asked
        assert all(isinstance(found, (Channel, Unit, Label)) for found in asked)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=12))
def test_any_class_name_is_either_found_or_refused_as_a_request(name: str) -> None:
    with suppress(RequestError):
        (found,) = parse(f"class:{name}", NET)
        assert isinstance(found, Label)
        assert found.name == LABELS[int(found.label)]


# --- strings and objects mixed ------------------------------------------------------------------------------------


def test_resolve_flattens_strings_objects_and_lists_in_order() -> None:
    asked = resolve(["stem:0-1", 2 * label("tabby") - channel("stem", 2), ["class:7up", "fc:1"]], NET)  # type: ignore[list-item]
    assert list(map(str, asked)) == [
        "stem:0",
        "stem:1",
        "2 * class:0 (tabby, tabby cat) - stem:2",
        "class:4 (7up)",
        "fc:1",
    ]
    assert resolve(label(2), NET) == [label(2).bind(NET)]
    assert resolve(("stem:1",), NET) == [channel("stem", 1)]


@pytest.mark.parametrize("nothing", [[], (), [[]]])
def test_resolving_nothing_is_refused(nothing: list[str]) -> None:
    with pytest.raises(RequestError, match="no objective"):
        resolve(nothing, NET)


@pytest.mark.parametrize("wrong", [3, None, 1.5, [3], [None], {"stem:1": 1}, b"stem:1"])
def test_resolving_what_is_no_objective_says_its_type(wrong: object) -> None:
    with pytest.raises(RequestError, match="a string or an Objective, not"):
        resolve(wrong, NET)  # type: ignore[arg-type]


def test_resolve_checks_objects_against_the_network() -> None:
    with pytest.raises(RequestError, match="channels 0 to 2"):
        resolve(["stem:0", channel("stem", 3)], NET)
