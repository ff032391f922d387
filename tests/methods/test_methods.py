"""Counts equal the paper's arithmetic, to the last parameter."""

from __future__ import annotations

import pytest
import torch

from polytask.adapters.attach import deltas_for, replaced_parameters
from polytask.backbones.loading import empty_model
from polytask.errors import RecipeError, UnknownName
from polytask.methods import (
    IA3,
    METHODS,
    BitFit,
    FullFineTuning,
    Houlsby,
    LayerNormOnly,
    LoRA,
    Method,
    Pfeiffer,
    TopLayers,
    described,
    method_described,
)
from polytask.methods.delta import truncated_normal_
from polytask.methods.lora import LowRank, merged

BASE = {"model_type": "bert"}
LARGE = {
    "model_type": "bert",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def count(config: dict[str, object], method: Method) -> int:
    model, row = empty_model(config)
    deltas = deltas_for(model, row, method, key=None)
    return sum(p.numel() for delta in deltas.values() for p in delta.parameters())


@pytest.mark.parametrize(
    ("config", "method", "printed"),
    [
        (BASE, Houlsby(64), 2_417_664),
        (BASE, Houlsby(8), 351_936),
        (BASE, Houlsby(2), 130_608),
        (BASE, LayerNormOnly(), 38_400),
        (LARGE, Houlsby(64), 6_444_032),
    ],
)
def test_counts_are_those_of_the_paper(config: dict[str, object], method: Method, printed: int) -> None:
    assert count(config, method) == printed


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "mpnet", "electra", "distilbert"])
@pytest.mark.parametrize(("hidden", "layers", "size"), [(36, 3, 1), (60, 5, 7), (24, 1, 48)])
def test_counts_are_2md_plus_d_plus_m_for_every_width_depth_and_size(
    architecture: str, hidden: int, layers: int, size: int
) -> None:
    names = {"hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": 2 * hidden, "vocab_size": 50}
    if architecture == "distilbert":
        names = {"dim": hidden, "n_layers": layers, "hidden_dim": 2 * hidden, "vocab_size": 50}
    heads = {"n_heads" if architecture == "distilbert" else "num_attention_heads": 4}
    extra = {"embedding_size": 20} if architecture == "electra" else {}
    config = {"model_type": architecture, **names, **heads, **extra}
    embedding = 20 if architecture == "electra" else hidden
    norms = 2 * embedding + layers * 2 * 2 * hidden
    assert count(config, Houlsby(size)) == layers * 2 * (2 * size * hidden + hidden + size) + norms
    assert count(config, LayerNormOnly()) == norms
    assert count(config, LoRA(size)) == layers * 2 * size * 2 * hidden
    assert count(config, IA3()) == layers * (hidden + hidden + 2 * hidden)
    assert count(config, BitFit()) == layers * (5 * hidden + 2 * hidden)
    assert count(config, Pfeiffer(size)) == layers * (2 * size * hidden + hidden + size)


def test_chosen_layers_leave_the_embedding_norm_frozen() -> None:
    one_layer = 2 * (2 * 64 * 768 + 768 + 64) + 4 * 768
    assert count(BASE, Houlsby(64, layers=4)) == 4 * one_layer
    assert count(BASE, Houlsby(64, layers=(0, 11))) == 2 * one_layer
    assert count(BASE, Houlsby(64, layers=range(3))) == 3 * one_layer


@pytest.mark.parametrize("layers", [0, -1, (), (1, 1), (-1,), 13, (12,), True, (0.5,)])
def test_layers_that_do_not_exist_are_refused(layers: object) -> None:
    with pytest.raises(RecipeError, match="layers"):
        count(BASE, Houlsby(64, layers=layers))  # type: ignore[arg-type]


def test_replacements_name_what_they_train() -> None:
    model, row = empty_model(BASE)
    everything = {name for name, _ in model.named_parameters()}
    assert set(replaced_parameters(model, row, FullFineTuning())) == everything
    top = replaced_parameters(model, row, TopLayers(2))
    assert {name.split(".")[2] for name in top if name.startswith("encoder")} == {"10", "11"}
    assert {name for name in top if not name.startswith("encoder")} == {"pooler.dense.weight", "pooler.dense.bias"}
    with pytest.raises(RecipeError, match="12 layers"):
        replaced_parameters(model, row, TopLayers(13))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_what_it_is_described_as(name: str) -> None:
    method = METHODS[name]()
    assert method_described(described(method)) == method


def test_settings_that_are_unknown_missing_or_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'houlsby'"):
        method_described({"name": "hulsby"})
    with pytest.raises(RecipeError, match="sise"):
        method_described({**described(Houlsby()), "sise": 3})
    with pytest.raises(RecipeError, match="size"):
        Houlsby(0)
    with pytest.raises(UnknownName, match="gelu_tanh"):
        Houlsby(activation="gelu_tan")
    with pytest.raises(UnknownName, match="query"):
        LoRA(linears=("querry",))


def test_initial_weights_are_cut_at_two_standard_deviations() -> None:
    weight = torch.empty(400, 400)
    truncated_normal_(weight, 1e-2, torch.Generator().manual_seed(0))
    assert weight.abs().max() <= 2e-2
    assert weight.std().item() == pytest.approx(1e-2 * 0.8796, rel=0.01)  # of a normal cut at two


def test_merged_lora_equals_the_unmerged_and_changes_neither() -> None:
    base, delta = torch.nn.Linear(12, 20), LowRank(12, 20, rank=3, scale=2.0, dropout=0.0)
    delta.start(base, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(delta.up.weight)
    x = torch.randn(2, 5, 12)
    before = base.weight.clone()
    torch.testing.assert_close(merged(base, delta)(x), delta(x, base(x), base))
    assert torch.equal(base.weight, before)
