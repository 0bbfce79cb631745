"""`evaluate` in this process: what is measured of what, what is left out and why, and what is refused."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import preimage as pi
from preimage import Evaluation, RequestError
from preimage.evaluation import Case, Deletion, GridPointing, Measure, Quantity
from preimage.evaluation.asked import drawn
from preimage.evaluation.data import Data, open_data
from preimage.evaluation.data.example import Annotation, Example, Fault
from preimage.evaluation.measure import plain
from preimage.explain import Found, Gradient, Method, Question, SmoothGrad
from preimage.explain.occlusion import Occlusion
from small_photos import damage, folder, photo

BASELINES = ["centre", "random"]


@dataclass(frozen=True)
class Told(Method):
    """Heat maps that a function makes of photos [N, C, H, W]; a stand-in for a user's own method."""

    name: ClassVar[str] = "told"
    source: ClassVar[str] = "a test"

    says_of: Callable[[Tensor], Tensor] = lambda photos: photos.mean(1)

    def explain(self, asked: Question) -> Found:
        return Found(self.says_of(asked.photos))


@dataclass(frozen=True)
class Peak(Measure):
    """Where the maximum is, and the sum of the photo."""

    name: ClassVar[str] = "peak"
    source: ClassVar[str] = "a test"

    seen: list[Case] = field(default_factory=list, compare=False)

    def measure(self, case: Case) -> dict[str, Any]:
        self.seen.append(case)
        return {"at": float(case.heatmap.argmax()), "sum": float(case.photo.sum())}

    def quantities(self, raws: Sequence[Any], labels: Sequence[str], seed: int) -> list[Quantity]:
        return [Quantity("at", plain(raws, "at"), None), Quantity("sum", plain(raws, "sum"), None)]

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


@pytest.fixture
def network(tiny: str) -> pi.Network:
    return pi.load(f"{tiny}:net")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return folder(tmp_path / "photos", cat=4, dog=3)


def evaluate(network: Any, data: Any, measures: Any = "deletion", methods: Any = "gradient", **rest: Any) -> Evaluation:
    return pi.evaluate(network, data, measures, methods, progress=False, **rest)


def by(made: Evaluation, quantity: str = "area") -> dict[tuple[str, str, str], float | None]:
    return {
        (row["method"], row["label"], row["photo"]): row["value"] for row in made.rows if row["quantity"] == quantity
    }


def test_every_photo_class_method_and_quantity_has_its_row(network: pi.Network, photos: str) -> None:
    made = evaluate(network, photos, ["deletion", Peak()], ["grad-cam", "gradient"])
    methods = ["grad-cam", "gradient", *BASELINES]
    assert list(dict.fromkeys(row["method"] for row in made.rows)) == methods
    files = sorted((Path(photos.removeprefix("folder:"))).rglob("*.png"))
    keys = ("photo", "label", "class", "method", "measure", "quantity")
    assert [tuple(row[key] for key in keys) for row in made.rows] == [
        (str(file), file.parent.name, ["cat", "dog"].index(file.parent.name), method, measure, quantity)
        for measure, quantities in (("deletion", ("area", "relative")), ("peak", ("at", "sum")))
        for method in methods
        for file in files
        for quantity in quantities
    ]  # fmt: skip
    assert all(row["failed"] is None and 0 < row["probability"] < 1 for row in made.rows)
    assert {(row["size"], row["fit"], row["target"], row["seed"]) for row in made.rows} == {
        ("32x32", "squash", "label", 0)
    }
    assert (made.cases, made.interrupted, made.failures) == (7, False, {})
    for one in made.summary:
        values = [row["value"] for row in made.rows if (row["method"], row["quantity"]) == (one.method, one.quantity)]
        assert one.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert one.low is not None and one.high is not None and one.low <= one.high
        assert (one.count, one.of) == (7, 7)
    json.dumps(made.as_dict(), allow_nan=False)


def test_what_is_measured_is_what_explain_finds(network: pi.Network, photos: str) -> None:
    """The photo as the network is shown it, the class of its folder, and the heat map of the same call by hand."""
    peak = Peak()
    evaluate(network, photos, peak, "gradient", batch_size=7)
    cases = peak.seen[:7]  # the baselines come behind
    shown = torch.stack([one.photo for one in cases])
    by_hand: Any = pi.explain(
        network, shown, [[f"class:{one.label}"] for one in cases], method=["gradient"], batch_size=7, progress=False
    )
    for one, explanation in zip(cases, by_hand, strict=True):
        assert torch.equal(one.heatmap, explanation.heatmap)
    chances = network.class_scores(shown, softmax=True)
    for i, one in enumerate(cases):
        assert one.score == pytest.approx(float(chances[i, ["cat", "dog"].index(one.label)]), rel=1e-5)


def test_several_classes_of_a_photo_are_asked_each(network: pi.Network, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png", 1)
    data = Data("mine", (Example(path, ("cat", "dog"), (), (40, 36)),))
    made = evaluate(network, data, Peak())
    assert {(row["label"], row["class"]) for row in made.rows} == {("cat", 0), ("dog", 1)}
    assert made.cases == 2


def test_random_maps_are_drawn_for_each_photo_anew(network: pi.Network, tmp_path: Path) -> None:
    """Else the baseline of a class is a single map, right or wrong for all photos, whatever its interval says."""
    made = evaluate(network, folder(tmp_path / "photos", cat=12), Peak())
    drawn_at = [value for (method, *_), value in by(made, "at").items() if method == "random"]
    assert len(drawn_at) == 12
    assert len(set(drawn_at)) >= 11  # of 1024 places; two of twelve meet by chance with a probability of 6 %
    again = evaluate(network, folder(tmp_path / "photos", cat=12), Peak(), batch_size=5)
    assert by(again, "at") == by(made, "at")
    assert by(evaluate(network, folder(tmp_path / "photos", cat=12), Peak(), seed=1), "at") != by(made, "at")


def test_the_centre_is_the_centre(network: pi.Network, photos: str) -> None:
    made = evaluate(network, photos, Peak())
    assert {value for (method, *_), value in by(made, "at").items() if method == "centre"} <= {
        15 * 32 + 15.0, 15 * 32 + 16.0, 16 * 32 + 15.0, 16 * 32 + 16.0
    }  # fmt: skip


@pytest.mark.parametrize("methods", ["centre", ["random", "gradient"], {"grey": Told()}, {"a": "random", "b": Told()}])
def test_the_baselines_are_always_there_once(network: pi.Network, photos: str, methods: Any) -> None:
    made = evaluate(network, photos, Peak(), methods)
    listed = list(dict.fromkeys(row["method"] for row in made.rows))
    asked = [methods] if isinstance(methods, str) else list(methods)
    assert listed == [*asked, *(name for name in BASELINES if name not in asked)]


def test_a_name_of_a_baseline_is_not_given_to_another(network: pi.Network, photos: str) -> None:
    """Every verdict would be against it."""
    with pytest.raises(RequestError, match="centre"):
        evaluate(network, photos, Peak(), {"centre": "gradient"})


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("mask/a b", "ü: λ=0.1")),
        pytest.param(("x@1", "x-1")),
        pytest.param(("a" * 200, "../../b")),
        ("", "A"),
    ],
)
def test_methods_may_be_called_as_one_likes(
    network: pi.Network, photos: str, tmp_path: Path, names: tuple[str, str]
) -> None:
    """And two names are two methods, though nothing else is different."""
    made = evaluate(network, photos, Peak(), {name: Told() for name in names}, out=tmp_path / "out")
    assert list(dict.fromkeys(row["method"] for row in made.rows)) == [*names, *BASELINES]
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "photos"}


def test_a_method_of_the_users_need_not_be_hashable(network: pi.Network, photos: str) -> None:
    @dataclass
    class Mine(Method):
        name: ClassVar[str] = "told"
        source: ClassVar[str] = "a test"
        weights: list[float] = field(default_factory=list)

        def explain(self, asked: Question) -> Found:
            return Found(asked.photos.mean(1))

    made = evaluate(network, photos, Peak(), Mine())
    assert [row["method"] for row in made.rows[:1]] == ["told"]


def test_two_measures_of_one_name_are_not_taken_for_one(network: pi.Network, photos: str) -> None:
    with pytest.raises(RequestError, match="deletion"):
        evaluate(network, photos, [Deletion(steps=4), Deletion(steps=9)])


def test_the_numbers_of_a_photo_do_not_depend_on_its_company(network: pi.Network, tmp_path: Path) -> None:
    """Up to float32's rounding in the network's answers, which lie in [0, 1]."""
    measures = ["deletion", "insertion", "sensitivity", "faithfulness", "grid-pointing"]
    methods, data = ["gradient", SmoothGrad(samples=3)], folder(tmp_path / "photos", cat=2, dog=3)
    whole, *others = (evaluate(network, data, measures, methods, batch_size=size) for size in (100, 1, 2, 5))
    for some in others:
        assert [{**row, "value": 0, "probability": 0} for row in some.rows] == [
            {**row, "value": 0, "probability": 0} for row in whole.rows
        ]
        for one, other in zip(some.rows, whole.rows, strict=True):
            assert one["value"] == pytest.approx(other["value"], abs=1e-4), one


def test_more_photos_begin_with_the_same_ones(network: pi.Network, tmp_path: Path) -> None:
    data = folder(tmp_path / "photos", cat=6, dog=9, crane=2)
    classes = {"crane": 2}
    runs = [evaluate(network, data, Peak(), limit=limit, classes=classes).rows for limit in (4, 8, 16)]
    files = [list(dict.fromkeys((row["label"], row["photo"]) for row in rows)) for rows in runs]
    assert list(map(len, files)) == [4, 8, 16]
    assert files[1][:4] == files[0] and files[2][:8] == files[1]
    counts = [sorted(sum(label == name for label, _ in some) for name in ("cat", "dog", "crane")) for some in files]
    assert counts == [[1, 1, 2], [2, 3, 3], [2, 6, 8]]
    again = evaluate(network, data, Peak(), limit=8, classes=classes).rows
    assert [row["photo"] for row in again] == [row["photo"] for row in runs[1]]
    other = evaluate(network, data, Peak(), limit=8, classes=classes, seed=5).rows
    assert [row["photo"] for row in other] != [row["photo"] for row in runs[1]]


def test_few_photos_of_many_classes_are_not_those_of_the_first_in_the_alphabet() -> None:
    """The first 400 of ImageNet's classes are animals."""
    data = Data("mine", tuple(Example(Path(f"{i:03}.png"), (f"n{i:03}",)) for i in range(200)))
    chosen = [one.labels[0] for one in drawn(data, 20, 0)]
    assert len(set(chosen)) == 20
    assert max(chosen) >= "n100", "of 20 out of 200 classes, all in the first half: one in a million"


def test_an_image_that_does_not_decode_costs_no_other(network: pi.Network, photos: str, tmp_path: Path) -> None:
    whole = evaluate(network, photos, ["deletion", "grid-pointing"], batch_size=4)
    broken = tmp_path / "photos/cat/1.png"
    damage(broken)
    made = evaluate(network, photos, ["deletion", "grid-pointing"], batch_size=4, out=tmp_path / "out")
    assert len(made.rows) == len(whole.rows)
    failed = [row for row in made.rows if row["failed"]]
    assert {row["photo"] for row in failed if row["measure"] == "deletion"} == {str(broken)}
    assert all(str(broken) in row["failed"] and row["value"] is None for row in failed)
    for row, before in zip(made.rows, whole.rows, strict=True):
        if not row["failed"]:
            assert row["value"] == pytest.approx(before["value"], abs=1e-5)
    for method in ("gradient", *BASELINES):
        one = made.of("deletion", "area", method)
        assert (one.count, one.of) == (6, 7)
    assert sum(made.failures.values()) == len({(row["photo"], row["method"]) for row in failed})
    assert all(str(broken) in why for why in made.failures)
    assert made.failures == json.loads((tmp_path / "out/result.json").read_text())["failures"]


def test_a_photo_that_changed_since_it_was_looked_at_is_told_of(
    network: pi.Network, photos: str, tmp_path: Path
) -> None:
    data = open_data(photos)
    photo(tmp_path / "photos/dog/0.png", 9, (50, 60))
    (tmp_path / "photos/dog/1.png").unlink()
    made = evaluate(network, data)
    assert [why.split("photos/")[1] for why in sorted(made.failures)] == [
        "dog/0.png' has 60 x 50 pixels now, not 36 x 40 as when the data set was opened",
        "dog/1.png'",
    ]


def refusing(photos: Tensor) -> Tensor:
    raise RequestError("there is no rule for this network")


def test_a_method_without_a_rule_for_the_network_is_told_of_and_costs_no_other(
    network: pi.Network, photos: str
) -> None:
    alone = evaluate(network, photos)
    made = evaluate(network, photos, "deletion", {"refusing": Told(refusing), "gradient": Gradient()}, batch_size=2)
    assert made.failures == {"refusing: there is no rule for this network": 7}
    assert made.of("deletion", "area", "refusing").mean is None
    rest = {key: value for key, value in by(made).items() if key[0] != "refusing"}
    assert rest == pytest.approx(by(alone), abs=1e-5)


def test_a_photo_that_a_method_refuses_costs_no_other(network: pi.Network, photos: str, tmp_path: Path) -> None:
    """Whatever batch it happens to be in."""
    bright = tmp_path / "photos/cat/2.png"
    bright.unlink()
    photo(bright, 77)
    marked = float(evaluate(network, photos, Peak()).rows[5]["value"])

    def picky(photos: Tensor) -> Tensor:
        if any(abs(float(one.sum()) - marked) < 1e-3 for one in photos):
            raise RequestError("not this one")
        return photos.mean(1)

    made = evaluate(network, photos, Peak(), {"picky": Told(picky)}, batch_size=4)
    assert made.failures == {"picky: not this one": 1}


def not_finite(photos: Tensor) -> Tensor:
    return photos.mean(1) / 0 * (torch.arange(len(photos)) % 2)[:, None, None]


def test_maps_that_are_not_finite_are_no_number(network: pi.Network, photos: str) -> None:
    made = evaluate(network, photos, "deletion", {"bad": Told(not_finite)}, batch_size=2)
    assert made.failures == {"bad: the heat map is not finite": 7}
    assert made.of("deletion", "area", "centre").count == 7


def test_a_network_that_answers_nothing_finite_has_no_number_in_the_table(
    tiny: str, photos: str, tmp_path: Path
) -> None:
    made = evaluate(f"{tiny}:nan", photos, "deletion", out=tmp_path / "out")
    assert all(row["value"] is None for row in made.rows)
    json.loads((tmp_path / "out/result.json").read_text(), parse_constant=pytest.fail)


def test_the_first_answer_is_what_the_network_answers_first(network: pi.Network, photos: str) -> None:
    peak = Peak()
    made = evaluate(network, photos, peak, target="first")
    for one in peak.seen:
        scores = network.class_scores(one.photo[None])[0]
        assert one.label == network.labels[int(scores.argmax())]  # type: ignore[index]
    assert {row["label"] for row in made.rows} <= set(network.labels or ())


def test_photos_without_a_class_are_asked_for_the_first_answer(network: pi.Network, tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / f"loose/{i}.png", i)
    loose = evaluate(network, f"folder:{tmp_path / 'loose'}", Peak())
    assert by(loose, "at") == by(evaluate(network, f"folder:{tmp_path / 'loose'}", Peak(), target="first"), "at")


def state(network: pi.Network) -> dict[str, Any]:
    module = network.module
    return {
        "weights": {name: tensor.clone() for name, tensor in module.state_dict().items()},
        "training": [part.training for part in module.modules()],
        "gradients": [(one.requires_grad, one.grad) for one in module.parameters()],
        "hooks": [
            (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks))
            for part in module.modules()
        ],
        "attributes": [sorted(vars(part)) for part in module.modules()],
    }  # fmt: skip


def failing(photos: Tensor) -> Tensor:
    raise ZeroDivisionError("a fault of the method's")


def interrupting(photos: Tensor) -> Tensor:
    raise KeyboardInterrupt


def test_the_network_is_as_it_was(network: pi.Network, photos: str) -> None:
    before = state(network)
    assert before["training"][0] is True
    methods: Any = ["gradient", "guided-backprop", "excitation-backprop", "grad-cam", Occlusion(positions=8)]
    some = [name for name, one in pi.measures().items() if one.needs == "photos"]
    evaluate(network, photos, some, methods, limit=2)
    for says_of in (failing, interrupting):
        with suppress(ZeroDivisionError):
            evaluate(network, photos, "deletion", Told(says_of))
    now = state(network)
    assert now.keys() == before.keys()
    for name, tensor in before["weights"].items():
        assert torch.equal(now["weights"][name], tensor), name
    assert {**now, "weights": 0} == {**before, "weights": 0}


def test_nothing_is_left_behind(tiny: str, photos: str) -> None:
    """No random numbers drawn from others' generators, no settings of PyTorch's changed, no network kept."""
    network = pi.load(f"{tiny}:net")
    torch.manual_seed(3)
    np.random.seed(3)
    before = (torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    theirs = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    evaluate(
        network,
        photos,
        ["deletion", "weight-randomisation", "sensitivity"],
        ["gradient", SmoothGrad(samples=3)],
        limit=2,
    )
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()) == before[1:]
    assert np.random.get_state()[1].tolist() == theirs  # type: ignore[index, union-attr]
    kept = weakref.ref(network), weakref.ref(network.module)
    del network
    gc.collect()
    assert [one() for one in kept] == [None, None]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_wherever_it_is_called(network: pi.Network, photos: str, mode: Any) -> None:
    measures = ["deletion", "sensitivity", "weight-randomisation"]
    usual = evaluate(network, photos, measures, limit=2)
    with mode():
        made = evaluate(network, photos, measures, limit=2)
    assert made.rows == usual.rows


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"measures": "deletoin"}, "there is no measure 'deletoin'; the nearest are deletion"),
        ({"measures": []}, "at least one measure"),
        ({"methods": []}, "at least one method"),
        ({"methods": "maks"}, "there is no method 'maks'; the nearest are mask"),
        ({"methods": [Gradient(), "gradient"]}, "two methods called gradient"),
        ({"data": "photos"}, "is no data set; give folder:DIR"),
        ({"data": "foldr:photos"}, r"is no data set \(the nearest is folder\)"),
        ({"data": "folder:gone"}, "'gone' is not a folder"),
        ({"measures": "pointing"}, "pointing needs boxes or regions, and 'folder:.*' has none"),
        ({"measures": ["deletion", "localisation"]}, "localisation needs boxes, and"),
        ({"measures": "parts"}, "parts needs points, and"),
        ({"measures": "localisation", "target": "first"}, "the target is label"),
        ({"target": "last"}, "a target is label, first or top:K"),
        ({"target": "top:0"}, "a target is label, first or top:K"),
        pytest.param({"target": "top:9"}, "top:K.*1 to 4"),
        ({"fit": "stretch"}, "by squash or crop, not 'stretch'"),
        ({"size": (3, 0)}, "size"),
        ({"limit": 0}, "at least 1"),
        ({"out": "memory://job"}, "a folder of this machine"),
        ({"batch_size": 0}, "at least 1"),
        ({"workers": 0}, "at least one worker"),
        pytest.param({"seed": -1}, "a seed is a whole number"),
        pytest.param({"table": "xlsx"}, "csv or parquet"),
        ({"classes": {"cat": "lion"}}, "1 of 2 labels have no class in net: net has no class 'lion'"),
        ({"classes": {"cat": "lion", "dog": 7}}, "2 of 2 labels have no class.*lion.*classes 0 to 3, not 7"),
        ({"network": "gone.py:net"}, "there is no file 'gone.py'"),
        pytest.param({"network": torch.nn.Linear(2, 2)}, "preimage.Network"),
        pytest.param({"data": Path("photos")}, "KIND:PATH"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_anything_is_explained(
    network: pi.Network, photos: str, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    def never(photos: Tensor) -> Tensor:
        raise AssertionError("explained")

    asked: dict[str, Any] = {
        "network": network,
        "data": photos,
        "measures": "deletion",
        "methods": {"never": Told(never)},
    }
    with pytest.raises(RequestError, match=says) as caught:
        pi.evaluate(**{**asked, "out": tmp_path / "out", "progress": False, **change})
    assert "\n" not in str(caught.value)


def test_a_format_that_needs_a_missing_package_is_refused_before_hours_are_spent(
    network: pi.Network, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = Peak()
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RequestError, match=r"preimage\[parquet\]"):
        evaluate(network, photos, peak, out=tmp_path / "out", table="parquet")
    assert peak.seen == []


def test_classes_that_the_network_does_not_know_are_named_together(network: pi.Network, tmp_path: Path) -> None:
    data = folder(tmp_path / "photos", cat=1, lion=1, tiger=1, bear=1)
    with pytest.raises(RequestError, match="3 of 4 labels have no class in net") as caught:
        evaluate(network, data)
    for name in ("lion", "tiger", "bear"):
        assert f"'{name}'" in str(caught.value)
    made = evaluate(network, data, Peak(), classes={"lion": "cat", "tiger": 0, "bear": "dog"})
    assert {row["label"]: row["class"] for row in made.rows} == {"cat": 0, "lion": 0, "tiger": 0, "bear": 1}


def test_faults_of_the_data_are_counted_listed_and_left_out_if_asked(
    network: pi.Network, photos: str, tmp_path: Path
) -> None:
    for i in range(4):
        (tmp_path / f"photos/dog/bad {i}.png").write_text("no picture")
    with pytest.raises(RequestError, match="has 4 faults") as caught:
        evaluate(network, photos, out=tmp_path / "out")
    assert "skip_faulty" in str(caught.value) and "\n" not in str(caught.value)
    listed = (tmp_path / "out/faults.csv").read_text().splitlines()
    assert listed[0] == "path,fault" and len(listed) == 5
    assert all(f"bad {i}.png" in listed[i + 1] for i in range(4))
    made = evaluate(network, photos, Peak(), out=tmp_path / "out", skip_faulty=True)
    assert made.cases == 7
    assert made.settings["data"]["faults"] == 4


def test_a_data_set_without_a_photo_is_refused(network: pi.Network, tmp_path: Path) -> None:
    nothing = Data("mine", (), (Fault(Path("a.png"), "is missing"),))
    with pytest.raises(RequestError, match="1 fault"):
        evaluate(network, nothing)
    with pytest.raises(RequestError, match="holds no photo that can be used"):
        evaluate(network, nothing, skip_faulty=True)


def test_a_measure_that_has_nothing_to_go_by_on_one_photo_says_so_there(network: pi.Network, tmp_path: Path) -> None:
    with_box, without = (photo(tmp_path / f"{name}.png", i) for i, name in enumerate(("with", "without")))
    data = Data(
        "mine",
        (
            Example(with_box, ("cat",), (Annotation("cat", (0, 0, 36, 40)),), (40, 36)),
            Example(without, ("cat",), (), (40, 36)),
        ),
    )
    made = evaluate(network, data, ["pointing", "deletion"])
    assert {(row["photo"], bool(row["failed"])) for row in made.rows if row["measure"] == "pointing"} == {
        (str(with_box), False), (str(without), True)
    }  # fmt: skip
    assert made.of("pointing", "all", "gradient").mean == 1.0
    assert (made.of("pointing", "all", "gradient").count, made.of("deletion", "area", "gradient").count) == (1, 2)


def test_mosaics_know_their_cell(network: pi.Network, photos: str) -> None:
    made = evaluate(network, photos, GridPointing(), {"grey": Told()})
    assert {row["cell"] for row in made.rows} <= {0, 1, 2, 3} and len({row["cell"] for row in made.rows}) > 1
    assert all(0 <= row["value"] <= 1 for row in made.rows)
    with pytest.raises(RequestError, match="at least two classes"):
        evaluate(
            network,
            "folder:" + str(Path(photos.removeprefix("folder:")) / "cat"),
            "grid-pointing",
            classes={},
            target="label",
        )


def test_two_processes_find_what_one_does(tiny: str, photos: str) -> None:
    one, two = (
        evaluate(
            f"{tiny}:net",
            photos,
            ["deletion", "grid-pointing"],
            ["gradient", SmoothGrad(samples=3)],
            workers=workers,
            batch_size=3,
        )
        for workers in (1, 2)
    )
    assert [{**row, "value": 0, "probability": 0} for row in one.rows] == [
        {**row, "value": 0, "probability": 0} for row in two.rows
    ]
    for mine, theirs in zip(one.rows, two.rows, strict=True):
        assert mine["value"] == pytest.approx(theirs["value"], abs=1e-5)
