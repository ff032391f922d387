"""The contract that every method fulfils on every backbone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.architectures.places import locate
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.batches import Batch, collate
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.dropout import DropoutKey
from polytask.errors import PolytaskWarning, RecipeError
from polytask.methods import IA3, METHODS, BitFit, DeltaMethod, Houlsby
from polytask.methods.bottleneck import BottleneckMethod
from polytask.methods.delta import RESIDUALS
from polytask.routing.route import Route
from tests.tiny import ARCHITECTURES as EVERY
from tests.tiny import WITHOUT_BIASES

SAME_MODULES = {"xlm-roberta": "roberta", "camembert": "roberta", "mistral": "llama"}
"""Architectures with the modules of another; ``test_architectures`` compares these with transformers, too."""
ARCHITECTURES = [name for name in EVERY if name not in SAME_MODULES]
DELTA_METHODS = [name for name, method in METHODS.items() if issubclass(method, DeltaMethod)]
CASES = [
    (method, architecture)
    for architecture in ARCHITECTURES
    for method in DELTA_METHODS
    if method != "bitfit" or architecture not in WITHOUT_BIASES
]
TEXTS = Rows(
    ["good film", "the plot was not great at all", "a", "win cash now free prize"],
    ["x y", "bad", "free call you", "see you at five"],
)
EXACT = {"rtol": 0.0, "atol": 0.0}


class Setup:
    """A tiny backbone with adapters of some methods, moved away from their initial values."""

    def __init__(self, folder: Path, adapters: dict[str, DeltaMethod], moved: float = 0.1) -> None:
        self.backbone: Backbone = load_backbone(folder, device="cpu", dtype="float32")
        self.attached = Attached(self.backbone.model, self.backbone.row, self.backbone.dropout_source)
        self.live: dict[str, LoadedAdapter] = {}
        for name, method in adapters.items():
            live = LoadedAdapter(self.backbone, method, "classification", ("no", "yes"), key=(0, name))
            generator = torch.Generator().manual_seed(len(self.live))
            with torch.no_grad():
                for parameter in live.tree.parameters():
                    parameter.add_(moved * torch.randn(parameter.shape, generator=generator))
            self.live[name] = live
            self.attached.add(name, live.deltas)
        encoded = encode(self.backbone.tokenizer, TEXTS, 32)
        self.batch: Batch = collate([(encoded, range(len(TEXTS)))], 0, self.backbone.device)

    def hidden(self, route: str, mode: str = "auto", batch: Batch | None = None) -> Tensor:
        names = [None if name == "-" else name for name in route]
        self.attached.mode = mode  # type: ignore[assignment]
        with self.attached.routed(Route.of(names)):
            return encode_batch(self.backbone, batch or self.batch)[0]

    def bare(self) -> Tensor:
        return encode_batch(self.backbone, self.batch)[0]


def setting(name: str, size: int) -> DeltaMethod:
    sizes = {"houlsby": "size", "pfeiffer": "size", "parallel": "size", "lora": "rank"}
    return METHODS[name](**({sizes[name]: size} if name in sizes else {}))  # type: ignore[return-value]


@pytest.mark.parametrize(("method", "architecture"), CASES)
def test_an_untrained_adapter_changes_almost_nothing(
    method: str, architecture: str, folder_of: Callable[[str], Path]
) -> None:
    for exactly in (False, True):
        chosen = setting(method, 4)
        if exactly and isinstance(chosen, BottleneckMethod):
            chosen = replace(chosen, init_std=0.0)
        setup = Setup(folder_of(architecture), {"a": chosen}, moved=0.0)
        difference = (setup.hidden("aaaa") - setup.bare()).abs().max()
        assert difference <= (2e-6 if exactly else 2e-2)


@pytest.mark.parametrize("architecture", ["bert", "camembert"])
def test_a_decoder_is_read_as_an_encoder_by_all_layers(
    architecture: str, tmp_path: Path, folder_of: Callable[[str], Path]
) -> None:
    folder = tmp_path / architecture
    shutil.copytree(folder_of(architecture), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_decoder": True}))
    with pytest.warns(PolytaskWarning, match="is_decoder True, which is not supported"):
        setup = Setup(folder, {"a": IA3()}, moved=0.0)  # its layers are transformers' own
    torch.testing.assert_close(setup.hidden("aaaa"), setup.bare(), rtol=0, atol=1e-5)
    encoder = Setup(folder_of(architecture), {"a": IA3()}, moved=0.0)
    torch.testing.assert_close(setup.hidden("aaaa"), encoder.hidden("aaaa"), **EXACT)


def save_with_outliers(source: Path, folder: Path) -> None:
    """Copy a tiny Gemma and enlarge one feature of embeddings and branches, as pretrained ones have it.

    The norms that read the residual stream make that feature small again and the others large.
    """
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if kind == "embed_tokens":
            tensor[:, 0] = 2e3
        elif kind in ("post_attention_layernorm", "post_feedforward_layernorm"):
            tensor[0] = 1e4
        elif kind in ("input_layernorm", "pre_feedforward_layernorm", "norm"):
            tensor.fill_(1e4)[0] = -1 + 1e-2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("method", [name for name in DELTA_METHODS if name != "bitfit"])
def test_an_untrained_adapter_changes_almost_nothing_where_features_of_branches_are_huge(
    method: str, tmp_path: Path, folder_of: Callable[[str], Path]
) -> None:
    save_with_outliers(folder_of("gemma3_text"), tmp_path / "outliers")
    setup = Setup(tmp_path / "outliers", {"a": setting(method, 4)}, moved=0.0)
    largest: list[float] = []
    for found in locate(setup.backbone.model, setup.backbone.row):
        if found.place.site in RESIDUALS:
            found.output.register_forward_hook(lambda module, x, y: largest.append(float(y.abs().max())))
    with torch.no_grad():
        bare, untrained = setup.bare(), setup.hidden("aaaa")
    assert max(largest) > 1e4
    assert (untrained - bare).abs().max() < 1e-4 * bare.abs().max()


@pytest.mark.parametrize(("method", "architecture"), CASES)
@pytest.mark.parametrize("mode", ["looped", "grouped"])
def test_each_row_sees_only_its_own_adapter(
    mode: str, method: str, architecture: str, folder_of: Callable[[str], Path]
) -> None:
    setup = Setup(folder_of(architecture), {"a": setting(method, 3), "b": setting(method, 4)})
    mixed = setup.hidden("ba-b", mode)
    assert (setup.hidden("aaaa") - setup.hidden("bbbb")).abs().max() > 1e-3
    torch.testing.assert_close(mixed[[0, 3]], setup.hidden("bbbb")[[0, 3]], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[1], setup.hidden("aaaa")[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[2], setup.bare()[2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_different_methods_share_one_batch(architecture: str, folder_of: Callable[[str], Path]) -> None:
    possible = [method for method, of in CASES if of == architecture]
    letters = dict(zip("abcdefg", [*possible, "houlsby"], strict=False))
    setup = Setup(folder_of(architecture), {letter: setting(name, 4) for letter, name in letters.items()})
    for route in ("abcd", "efga", "g-ag"):
        for mode in ("looped", "grouped"):
            mixed = setup.hidden(route, mode)
            for row, name in enumerate(route):
                torch.testing.assert_close(mixed[row], setup.hidden(name * 4)[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("method", "architecture"), CASES)
def test_gradients_of_one_adapter_never_reach_another(
    method: str, architecture: str, folder_of: Callable[[str], Path]
) -> None:
    setup = Setup(folder_of(architecture), {"a": setting(method, 4), "b": setting(method, 4)})
    grads = {}
    for mode in ("looped", "grouped"):
        for live in setup.live.values():
            live.tree.zero_grad()
        setup.hidden("abab", mode)[0::2].square().sum().backward()
        assert all(p.grad is None or not p.grad.any() for d in setup.live["b"].deltas.values() for p in d.parameters())
        grads[mode] = {f"{w}.{n}": p.grad for w, d in setup.live["a"].deltas.items() for n, p in d.named_parameters()}
    assert all(grad is not None and grad.any() for grad in grads["looped"].values())
    torch.testing.assert_close(grads["looped"], grads["grouped"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", [name for name in WITHOUT_BIASES if name in ARCHITECTURES])
def test_bitfit_is_refused_where_there_are_no_biases(architecture: str, folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(RecipeError, match=f"trains biases of linears, and this {architecture} has none"):
        Setup(folder_of(architecture), {"a": BitFit()})


@pytest.mark.parametrize("method", DELTA_METHODS)
def test_adding_and_removing_an_adapter_leaves_every_bit_of_the_others(method: str, tiny_bert_folder: Path) -> None:
    setup = Setup(tiny_bert_folder, {"a": setting(method, 4), "b": setting(method, 3)})
    before, bare = setup.hidden("ab-a"), setup.bare()
    setup.attached.add("c", LoadedAdapter(setup.backbone, setting(method, 4), "regression", (), key=(7,)).deltas)
    torch.testing.assert_close(setup.hidden("ab-a"), before, **EXACT)
    setup.attached.remove("c")
    torch.testing.assert_close(setup.hidden("ab-a"), before, **EXACT)
    for name in "ab":
        setup.attached.remove(name)
    torch.testing.assert_close(setup.bare(), bare, **EXACT)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in setup.backbone.model.modules())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_of_a_row_does_not_depend_on_the_other_rows(
    architecture: str, folder_of: Callable[[str], Path]
) -> None:
    setup = Setup(folder_of(architecture), {"a": setting("lora", 4)})
    setup.backbone.model.train()
    encoded = encode(setup.backbone.tokenizer, TEXTS, 32)
    lengths = encoded.lengths
    alone_batch = collate([(encoded, [0, 2])], 0, setup.backbone.device)
    own, others = (lengths[0], lengths[2]), (lengths[1], lengths[3])
    assert max(own) < max(lengths)
    key = (3, "job", 5)
    with setup.backbone.dropout_source.keyed((DropoutKey(slice(0, 2), key, own),)):
        alone = setup.hidden("aa", batch=alone_batch)
    mixed_batch = collate([(encoded, [1, 3]), (encoded, [0, 2])], 0, setup.backbone.device)
    with setup.backbone.dropout_source.keyed(
        (DropoutKey(slice(0, 2), (4, "other", 5), others), DropoutKey(slice(2, 4), key, own))
    ):
        mixed = setup.hidden("-" * 2 + "aa", batch=mixed_batch)
    assert not torch.equal(alone, setup.hidden("aa", batch=alone_batch))
    for row, at in enumerate((0, 2)):
        torch.testing.assert_close(mixed[2 + row, : lengths[at]], alone[row, : lengths[at]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("route", ["abcd", "dcba", "aabb", "ab-c", "aaab"])
def test_cached_stacks_change_no_bit(route: str, tiny_bert_folder: Path) -> None:
    """With other batches before, the bits are those of a backbone that answers for the first time."""
    adapters = {letter: setting("houlsby", 3 + number) for number, letter in enumerate("abcd")}
    fresh, used = Setup(tiny_bert_folder, adapters), Setup(tiny_bert_folder, adapters)
    for setup in (fresh, used):
        for live in setup.live.values():
            live.frozen()
    with torch.no_grad():
        for other in ("cdab", "aabb", "bbaa", "dddd", route):
            used.hidden(other)
        torch.testing.assert_close(used.hidden(route), fresh.hidden(route), **EXACT)
        used.attached.remove("d")
        used.attached.add("d", fresh.live["a"].deltas)  # another adapter under an old name
        expected = fresh.hidden(route.replace("d", "a"))
        torch.testing.assert_close(used.hidden(route), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_second_text_of_a_pair_is_told_from_the_first_where_the_backbone_can(
    architecture: str, folder_of: Callable[[str], Path]
) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    encoded = encode(backbone.tokenizer, Rows(["good film"], ["bad plot"]), 16)
    batch = collate([(encoded, [0])], 0, backbone.device)
    assert batch.types is not None
    assert batch.types.flatten().tolist() == sorted(batch.types.flatten().tolist())
    assert set(batch.types.flatten().tolist()) == {0, 1}
    differs = not torch.equal(
        encode_batch(backbone, batch)[0], encode_batch(backbone, replace(batch, types=torch.zeros_like(batch.types)))[0]
    )
    assert differs == (architecture in ("bert", "electra", "ernie", "roformer", "albert", "nomic_bert"))


def test_the_norms_of_pre_norm_backbones_stay_frozen_in_new_adapters_unless_asked_for() -> None:
    new = Houlsby().fitted(is_pre_norm=True)
    assert new.settings() == {**Houlsby().settings(), "norms": False}
    assert Houlsby.from_settings(new.settings()) == new
    assert Houlsby().fitted(is_pre_norm=False) == Houlsby() == Houlsby.from_settings(Houlsby().settings())
    assert "norms" not in Houlsby().settings()
    assert Houlsby(norms=True).fitted(is_pre_norm=True) == Houlsby(norms=True)
    with pytest.raises(RecipeError, match="norms=1: give True or False"):
        Houlsby(norms=1)  # type: ignore[arg-type]
