"""The average of adapters is arithmetic; what cannot be averaged is refused; the file says what it was made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.averaging import Parents, average_adapters
from polytask.adapters.provenance import check_start, start_in_words
from polytask.errors import AdapterError, IncompatibleAdapter, UnknownName
from polytask.evaluation.calibration import Temperature
from polytask.methods import Houlsby
from tests.samples import METHODS, Known, created

A, B = created(seed=1, task="a", recipe={"max_length": 64, "seed": 3}), created(seed=2, task="b")
DIGEST = "0" * 64


def test_the_average_of_one_is_itself() -> None:
    parents = Parents.of([A], weights=[3])
    tensors = {**parents.body(), **parents.head()}
    assert tensors.keys() == A.tensors.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in A.tensors.items())


@pytest.mark.parametrize("method", METHODS)
def test_the_average_of_two_is_the_weighted_mean_of_each_tensor(method: Houlsby) -> None:
    a, b = created(method, seed=1, task="a"), created(method, seed=2, task="b")
    merged = average_adapters([a, b], "c", weights=[3, 1])
    assert merged.tensors.keys() == a.tensors.keys()
    for name, tensor in merged.tensors.items():
        torch.testing.assert_close(tensor, 0.75 * a.tensors[name] + 0.25 * b.tensors[name])


def test_the_file_says_what_it_was_made_of() -> None:
    merged = average_adapters([A, B], "c", names=["a@1", "b@4"])
    parents = [
        {"name": name, "tensor_digest": adapter.tensor_digest, "weight": 0.5}
        for name, adapter in (("a@1", A), ("b@4", B))
    ]
    assert merged.header.start == {"adapters": parents, "head": "taken"}
    assert Adapter.from_bytes(merged.to_bytes()).header == merged.header
    assert (merged.header.task, merged.header.score, merged.header.recipe) == ("c", 0.0, {"max_length": 64})
    assert start_in_words(merged.header.start) == "the average of a@1 (0.5) and b@4 (0.5), with their averaged head"


def test_heads_of_other_labels_are_refused_unless_one_is_named() -> None:
    other = created(seed=2, task="b", labels=["good", "bad"])
    with pytest.raises(AdapterError, match=r"labels differ \(a: ham, spam; b: good, bad\). Name the head to keep"):
        average_adapters([A, other], "c")
    merged = average_adapters([A, other], "c", head="b")
    assert merged.header.head.labels == ("good", "bad")
    assert torch.equal(merged.tensors["head.weight"], other.tensors["head.weight"])
    assert merged.header.start is not None
    assert merged.header.start["head"] == "b"
    with pytest.raises(UnknownName, match="no adapter to take the head of called 'x'"):
        average_adapters([A, other], "c", head="x")


def test_calibration_and_thresholds_are_left_out() -> None:
    calibrated = created(seed=1, task="a", decides={"calibration": Temperature(10, 2.0).to_json()})
    assert calibrated.header.calibration is not None
    assert average_adapters([calibrated, B], "c").header.calibration is None


def test_what_cannot_be_averaged_is_refused() -> None:
    for other, why in (
        (created(Houlsby(size=2), task="b"), "differ in their method"),
        (created(task="b", backbone=replace(Known(), fingerprint="a" * 64)), "differ in their backbone"),
    ):
        with pytest.raises(IncompatibleAdapter, match=why):
            average_adapters([A, other], "c")
    with pytest.raises(AdapterError, match="at least two"):
        average_adapters([A], "c")
    for weights in ([1.0], [0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0]):
        with pytest.raises(AdapterError, match="weights"):
            average_adapters([A, B], "c", weights=weights)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"adapters": []}, "names 0 adapters"),
        ({"head": "mine"}, "it can be fresh, taken or an adapter's name"),
        ({"adapters": [{"name": "a", "tensor_digest": "f", "weight": 1.0}]}, "64 hexadecimal digits"),
        ({"adapters": [{"name": "a", "tensor_digest": DIGEST, "weight": 1.5}]}, "must be from 0 to 1"),
        ({"adapters": [{"name": "", "tensor_digest": DIGEST, "weight": 1}]}, "is empty"),
        ({"seed": 0}, "unknown fields: 'seed'"),
    ],
)
def test_a_start_that_is_not_one_is_refused(wrong: dict[str, object], why: str) -> None:
    right = {"adapters": [{"name": "a", "tensor_digest": DIGEST, "weight": 1.0}], "head": "fresh"}
    check_start(right)
    with pytest.raises(AdapterError, match=why):
        check_start({**right, **wrong})
