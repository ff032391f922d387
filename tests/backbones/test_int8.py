"""Int8 products: close to those of floating point, the same alone and in company, for answering only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.backbones.fast import int8
from polytask.backbones.fast.int8 import LEVELS, ZERO_POINT, Int8Linear, Int8Weight, quantized_rows
from polytask.backbones.loading import load_backbone
from polytask.data.batches import Batch, collate
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.errors import BackboneError
from polytask.inference.prefix import _setting
from polytask.methods import METHODS, DeltaMethod, FullFineTuning
from polytask.routing.route import Route
from polytask.training.job import Job
from polytask.training.recipe import Recipe

TYPES = (torch.float32, torch.bfloat16)
TEXTS = ["good film", "the plot was not great at all", "a", "win cash now free prize"]
PRODUCT_ERROR = 0.02
"""The norm of the error of an int8 product over that of the product."""

pytestmark = pytest.mark.skipif(
    int8._missing_for_int8(torch.device("cpu")) is not None, reason="no fast int8 products here"
)


def error(of: Tensor, from_: Tensor) -> float:
    """The norm of a difference over the norm of what is right."""
    return float((of.double() - from_.double()).norm() / from_.double().norm())


@pytest.fixture(scope="module")
def bert(folder_of: Callable[[str], Path]) -> Backbone:
    """A tiny BERT in int8."""
    return load_backbone(folder_of("bert"), device="cpu", dtype="int8", pooling="mean")


def batch_of(backbone: Backbone, texts: list[str]) -> Batch:
    """A padded batch of texts."""
    return collate([(encode(backbone.tokenizer, Rows(texts), 32), range(len(texts)))], 0, backbone.device)


@torch.inference_mode()
def vectors(backbone: Backbone, texts: list[str]) -> Tensor:
    """The pooled vectors of texts."""
    return encode_batch(backbone, batch_of(backbone, texts))[1]


@pytest.mark.parametrize("dtype", TYPES)
def test_quantized_rows_are_within_half_a_step(dtype: torch.dtype) -> None:
    x = torch.randn(40, 48, generator=torch.Generator().manual_seed(0)).to(dtype) * torch.logspace(-6, 6, 40)[:, None]
    x = x.to(dtype)
    numbers, scales = quantized_rows(x)
    assert numbers.dtype == torch.uint8
    assert int(numbers.min()) >= ZERO_POINT - LEVELS - 1
    assert int(numbers.max()) <= ZERO_POINT + LEVELS + 1
    again = (numbers.double() - ZERO_POINT) * scales.double()
    step = scales.double() * (0.5 if dtype == torch.float32 else 1.0)  # bf16 rounds the quotient, too
    assert bool(((again - x.double()).abs() <= step * 1.01).all())


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_of_zeros_stays_one(dtype: torch.dtype) -> None:
    numbers, scales = quantized_rows(torch.zeros(2, 8, dtype=dtype))
    assert bool((numbers == ZERO_POINT).all())
    assert bool(torch.isfinite(scales).all())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
def test_int8_product_is_close(dtype: torch.dtype, gelu: str | None) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 96).to(dtype), torch.randn(64, 96).to(dtype), torch.randn(64).to(dtype)
    right = nn.functional.linear(x.double(), weight.double(), bias.double())
    right = right if gelu is None else nn.functional.gelu(right, approximate=gelu)
    with torch.no_grad():
        out = Int8Weight(weight, bias)(x, gelu)
    assert out.dtype == dtype
    assert error(out, right) < PRODUCT_ERROR


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_has_the_same_bits_alone_and_beside_a_row_of_large_numbers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    product = Int8Weight(torch.randn(64, 96).to(dtype), torch.randn(64).to(dtype))
    x = torch.randn(33, 96).to(dtype)
    x[7] *= 1000
    with torch.no_grad():
        together = product(x, "none")
        assert all(torch.equal(together[row], product(x[row : row + 1], "none")[0]) for row in range(len(x)))


def test_not_a_number_stays_visible() -> None:
    x = torch.zeros(2, 32)
    x[0, 3] = torch.nan
    out = Int8Weight(torch.randn(16, 32), None)(x)
    assert bool(out[0].isnan().all())
    assert not bool(out[1].isnan().any())


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "mpnet", "albert", "qwen3"])
def test_every_kind_of_layer_answers_in_int8(architecture: str, folder_of: Callable[[str], Path]) -> None:
    folder = folder_of(architecture)
    whole = load_backbone(folder, device="cpu", dtype="float32", pooling="mean")
    small = load_backbone(folder, device="cpu", dtype="int8", pooling="mean")
    layers = small.model.get_submodule(small.row.layers)
    kinds = {type(module) for module in layers.modules() if isinstance(module, nn.Linear)}
    assert kinds == {Int8Linear}
    assert small.precision == "int8"
    assert small.fingerprint == whole.fingerprint
    assert 0 < error(vectors(small, TEXTS), vectors(whole, TEXTS)) < 0.1


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if issubclass(kind, DeltaMethod)])
def test_mixed_adapters_answer_as_alone(method: str, bert: Backbone) -> None:
    attached = Attached.of(bert)
    for number, name in enumerate("ab"):
        torch.manual_seed(number)
        live = LoadedAdapter(bert, METHODS[method](), "classification", ("no", "yes"), key=(0, name))
        for parameter in live.tree.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        attached.add(name, live.frozen(bert.dtype).deltas)
    try:
        with torch.inference_mode(), attached.routed(Route.of("abab")):
            mixed = encode_batch(bert, batch_of(bert, TEXTS))[1]
        for row, name in enumerate("abab"):
            with torch.inference_mode(), attached.routed(Route.of(name)):
                alone = encode_batch(bert, batch_of(bert, [TEXTS[row]]))[1]
            torch.testing.assert_close(mixed[row], alone[0], rtol=0.02, atol=0.03)
    finally:
        for name in "ab":
            attached.remove(name)


def test_a_replaced_weight_runs_in_its_own_type(bert: Backbone) -> None:
    linear = next(module for module in bert.model.modules() if isinstance(module, Int8Linear))
    x = torch.randn(4, linear.in_features, dtype=linear.weight.dtype)
    with torch.inference_mode():
        own = {"weight": linear.weight.clone() * 2}
        replaced = torch.func.functional_call(linear, own, (x,))
    assert torch.equal(replaced, nn.functional.linear(x, own["weight"], linear.bias))


def test_a_changed_weight_is_quantised_again() -> None:
    linear = Int8Linear.of(nn.Linear(32, 16).requires_grad_(False))
    x = torch.randn(4, 32)
    before = linear(x)
    linear.weight.mul_(2)
    assert error(linear(x) - linear.bias, 2 * (before - linear.bias)) < PRODUCT_ERROR


@pytest.mark.parametrize("method", ["houlsby", "lora"])
def test_training_is_refused(method: str, bert: Backbone, tiny_task: Task) -> None:
    with pytest.raises(BackboneError, match=r"only answers.*--dtype auto"):
        Job(bert, tiny_task, Recipe(method=METHODS[method]()))
    with pytest.raises(BackboneError, match="only answers"):
        Job(bert, tiny_task, Recipe(method=FullFineTuning()))


def test_gradients_are_refused(bert: Backbone) -> None:
    linear = next(module for module in bert.model.modules() if isinstance(module, Int8Linear))
    x = torch.randn(4, linear.in_features, dtype=linear.weight.dtype, requires_grad=True)
    with pytest.raises(BackboneError, match="only answers"):
        linear(x)
    fast = bert.model.encoder.layer[0].forward.__self__  # type: ignore[union-attr, operator, index]
    with pytest.raises(BackboneError, match="only answers"):
        fast.down.input_gradient(x)


def test_what_is_missing_is_one_clear_line(folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(BackboneError, match=r"int8 cannot be used here: this processor .* \(--dtype auto\)"):
        load_backbone(folder_of("bert"), device="cpu", dtype="int8")
    with pytest.raises(BackboneError, match="on a CPU only, not on meta"):
        load_backbone(folder_of("bert"), device="meta", dtype="int8")


def test_cached_states_of_int8_are_its_own(bert: Backbone, tiny_backbone: Backbone) -> None:
    whole = load_backbone(tiny_backbone.name, device="cpu", dtype=bert.dtype, pooling="mean")
    assert whole.dtype == bert.dtype
    assert whole.fingerprint == bert.fingerprint
    assert _setting(whole, EntryPoint(1)) != _setting(bert, EntryPoint(1))
