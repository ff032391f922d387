"""Fast layers equal Hugging Face's layers: the same output, gradients and dropout."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.backbones.fast.grids import Grids
from polytask.backbones.fast.kernels import HAS_PREPACKED, PrepackedLinear
from polytask.backbones.fast.layer import FAST_ARCHITECTURES, FastLayer, fast_layer_of
from polytask.backbones.loading import load_backbone
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.dropout import DropoutKey
from polytask.errors import RouteError
from polytask.methods import METHODS, DeltaMethod
from polytask.packing import Packing
from polytask.routing.route import Route
from tests.tiny import WITHOUT_BIASES, save_tiny

DELTA_METHODS = [name for name, method in METHODS.items() if issubclass(method, DeltaMethod)]
TEXTS = Rows(["good film", "the plot was not great at all", "a", "win cash now free prize"])


class Case:
    """A tiny backbone in float64 with two adapters of one method, and a batch with padding."""

    def __init__(self, folder: Path, method: str) -> None:
        self.backbone: Backbone = load_backbone(folder, device="cpu", dtype="float64")
        self.attached = Attached(self.backbone.model, self.backbone.row, self.backbone.dropout_source)
        self.live: list[LoadedAdapter] = []
        for name in "ab":
            live = LoadedAdapter(self.backbone, METHODS[method](), "classification", ("no", "yes"), key=(0, name))
            generator = torch.Generator().manual_seed(len(self.live))
            with torch.no_grad():
                for parameter in live.tree.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
            self.live.append(live)
            self.attached.add(name, live.deltas)
        self.batch = collate([(encode(self.backbone.tokenizer, TEXTS, 32), range(4))], 0, self.backbone.device)

    def gradients(self, route: str) -> list[Tensor]:
        """The hidden states in training, with dropout, and the gradients of all deltas."""
        self.backbone.model.train()
        lengths = tuple(self.batch.mask.sum(1).tolist())
        draws = (DropoutKey(slice(0, 3), ("one", 5), lengths[:3]), DropoutKey(slice(3, 4), ("two", 5), lengths[3:]))
        with self.attached.routed(Route.of(route)), self.backbone.dropout_source.keyed(draws):
            hidden = encode_batch(self.backbone, self.batch)[0][self.batch.mask.bool()]
        weights = torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view_as(hidden)
        parameters = [p for live in self.live for delta in live.deltas.values() for p in delta.parameters()]
        grads = torch.autograd.grad((hidden * weights).sum(), parameters, allow_unused=True)
        return [hidden.detach(), *(torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters))]

    def answers(self, route: str) -> Tensor:
        """The hidden states in evaluation."""
        self.backbone.model.eval()
        with torch.inference_mode(), self.attached.routed(Route.of(None if name == "-" else name for name in route)):
            return encode_batch(self.backbone, self.batch)[0][self.batch.mask.bool()]


@contextmanager
def slowly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block Hugging Face's layers run."""
    with monkeypatch.context() as patched:
        patched.setattr(FastLayer, "is_usable", lambda *_: False)
        yield


@pytest.mark.parametrize(
    ("architecture", "method"),
    [(of, name) for of in FAST_ARCHITECTURES for name in DELTA_METHODS if name != "bitfit" or of not in WITHOUT_BIASES],
)
def test_fast_layers_give_the_answers_and_gradients_of_transformers(
    architecture: str, method: str, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(folder_of(architecture), method)
    fast = [case.answers("ab-b"), *case.gradients("abab"), *case.gradients("aaaa")]
    with slowly(monkeypatch):
        slow = [case.answers("ab-b"), *case.gradients("abab"), *case.gradients("aaaa")]
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["houlsby", "lora"])
@pytest.mark.parametrize("changes", [{"local_attention": 2}, {"attention_bias": True, "mlp_bias": True}])
def test_a_gated_layer_is_that_of_transformers_with_narrow_windows_and_biases(
    changes: dict[str, object], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(save_tiny(tmp_path, "modernbert", num_hidden_layers=3, **changes), method)
    fast = [case.answers("ab-b"), *case.gradients("abab")]
    with slowly(monkeypatch):
        slow = [case.answers("ab-b"), *case.gradients("abab")]
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("texts", [5, 8, 11])
@pytest.mark.parametrize("architecture", ["modernbert", "bert", "mpnet"])
def test_texts_of_unequal_lengths_answer_in_two_grids_as_in_one(
    architecture: str, texts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = {"local_attention": 20} if architecture == "modernbert" else {}
    backbone = load_backbone(save_tiny(tmp_path, architecture, **windows), device="cpu", dtype="float64")
    lengths = torch.linspace(3, 60, texts).long()[torch.randperm(texts, generator=torch.Generator().manual_seed(0))]
    mask = (torch.arange(60) < lengths[:, None]).long()
    ids = torch.randint(5, 70, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    grids = Grids(Packing(mask), 4)
    assert [part.grid[0] for part in grids.parts] == [texts // 2, texts - texts // 2]
    for of in (mask, mask.flip(1)) if architecture == "modernbert" else (mask,):  # padding on the left, too
        with torch.no_grad():
            fast = backbone.encoder(ids if of is mask else ids.flip(1), of, None)[0]
            with slowly(monkeypatch):
                slow = backbone.encoder(ids if of is mask else ids.flip(1), of, None)[0]
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


def test_texts_of_one_length_or_about_the_same_share_one_grid() -> None:
    for lengths in ([40] * 6, [33, 36, 38, 40, 41, 42], [7]):
        mask = (torch.arange(42) < torch.tensor(lengths)[:, None]).long()
        packing = Packing(mask[:, : max(lengths)])
        assert Grids(packing, 4).parts == (packing,)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "distilbert", "modernbert"])
def test_each_kind_of_fast_layer_is_used(
    architecture: str, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(folder_of(architecture), "houlsby")
    fast = fast_layer_of(case.backbone.model.get_submodule(f"{case.backbone.row.layers}.1"))
    assert fast is not None
    taken: list[int] = []
    own = type(fast).fast_forward
    monkeypatch.setattr(type(fast), "fast_forward", lambda self, *args: taken.append(self.number) or own(self, *args))
    case.gradients("abab")
    case.answers("ab-b")
    assert taken == [0, 1, 0, 1]


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "distilbert"])
def test_a_text_can_enter_a_post_norm_layer_after_its_attention(
    architecture: str, folder_of: Callable[[str], Path]
) -> None:
    case = Case(folder_of(architecture), "houlsby")
    encoder, batch, entry = case.backbone.encoder, case.batch, EntryPoint(1, is_after_attention=True)
    with torch.no_grad():
        whole = encoder(batch.ids, batch.mask, batch.types)[0]
        for keep_padding in (False, True):
            states = encoder.prefix_states(batch.ids, batch.mask, batch.types, entry, keep_padding=keep_padding)
            assert states.shape[-1] == 2 * case.backbone.hidden
            entered = encoder(batch.ids, batch.mask, batch.types, states, entry)[0]
            torch.testing.assert_close(entered, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["full", "top"])
def test_replaced_parameters_run_in_transformers_layers(
    method: str, tiny_bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 the copies are in the model for one call, as tensors that are not parameters and need no gradients."""
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="bfloat16")
    batch = collate([(encode(backbone.tokenizer, TEXTS, 32), range(4))], 0, backbone.device)
    answers = []
    for seed in range(3):
        live = LoadedAdapter(backbone, METHODS[method](), "classification", ("no", "yes"), key=(0, "a"))
        with torch.no_grad():
            for parameter in live.copies.values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        with torch.inference_mode():
            answers.append(encode_batch(backbone, batch, live.frozen())[0])
        with monkeypatch.context() as patched, torch.no_grad():
            patched.setattr(FastLayer, "is_usable", lambda *_: False)
            slow = encode_batch(backbone, batch, live)[0]
        torch.testing.assert_close(answers[-1], slow, rtol=0, atol=0.1)
    assert (answers[0] - answers[1]).abs().max() > 0.1 < (answers[1] - answers[2]).abs().max()


@pytest.mark.parametrize("route", ["abb", "ababa"])
def test_a_route_of_more_or_fewer_rows_than_the_batch_is_refused(route: str, tiny_bert_folder: Path) -> None:
    with pytest.raises(RouteError, match=f"a route of {len(route)} rows meets a batch of 4"):
        Case(tiny_bert_folder, "houlsby").answers(route)


def test_a_frozen_norm_is_not_computed_if_every_row_has_its_own(
    tiny_bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tiny_bert_folder, "houlsby")
    norms: list[int] = []
    layer_norm = torch.nn.functional.layer_norm
    monkeypatch.setattr(torch.nn.functional, "layer_norm", lambda *a, **k: norms.append(1) or layer_norm(*a, **k))
    case.answers("aaaa")
    all_own = len(norms)
    case.answers("aa-a")
    assert len(norms) - all_own > all_own


@pytest.mark.skipif(not HAS_PREPACKED, reason="this build of torch has no packed layout")
def test_a_prepacked_weight_follows_changes_of_its_linear() -> None:
    linear = torch.nn.Linear(64, 96).to(torch.bfloat16).requires_grad_(False)
    frozen = PrepackedLinear(linear)
    x = torch.randn(40, 64).to(torch.bfloat16)
    torch.testing.assert_close(frozen(x), linear(x), rtol=0.02, atol=0.02)
    linear.weight.mul_(-2.0)
    torch.testing.assert_close(frozen(x), linear(x), rtol=0.02, atol=0.04)


def test_concatenated_linears_equal_separate_ones() -> None:
    linears = [torch.nn.Linear(8, 4).double() for _ in range(3)]
    x = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(PrepackedLinear(*linears)(x), torch.cat([linear(x) for linear in linears], 1))


def test_the_model_keeps_no_attached_object_alive(tiny_bert_folder: Path) -> None:
    case = Case(tiny_bert_folder, "houlsby")
    fast = fast_layer_of(case.backbone.model.get_submodule("encoder.layer.0"))
    assert fast is not None
    assert len(fast.attached) == 1
    for name in "ab":
        case.attached.remove(name)
    del case.attached
    gc.collect()
    assert len(fast.attached) == 0
