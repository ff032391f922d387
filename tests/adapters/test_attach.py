"""Adapters attached to a transformers model and trained in the user's own loop."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import polytask as pt
from polytask.errors import BackboneError, RecipeError, RouteError, UnknownName, UnsupportedArchitecture
from polytask.methods import FullFineTuning, Houlsby, LoRA
from polytask.routing.route import Route
from tests.tiny import VOCABULARY

IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 10, 11, 3]])


@pytest.fixture
def model(tiny_bert_folder: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny_bert_folder, num_labels=2).eval()


def test_a_loop_trains_adapter_and_classifier_only(model: torch.nn.Module) -> None:
    before = {name: p.clone() for name, p in model.named_parameters()}
    first = model(IDS).logits
    pt.attach(model, LoRA(4))
    torch.testing.assert_close(model(IDS).logits, first, rtol=0, atol=1e-6)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-2)
    losses = []
    for _ in range(30):
        loss = model(IDS, labels=torch.tensor([0, 1])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    changed = {name for name, p in model.named_parameters() if name in before and not torch.equal(p, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_the_deltas_are_a_submodule_under_the_names_of_an_adapter_file(model: torch.nn.Module) -> None:
    own = set(model.state_dict())
    pt.attach(model, Houlsby(4), name="mood")
    added = set(model.state_dict()) - own
    assert "polytask.mood.layer.1.ffn_out.down.weight" in added
    assert "polytask.mood.embed_norm.weight" in added
    assert len(added) == 2 * 2 * 4 + (2 * 2 + 1) * 2


def test_detach_restores_the_model(model: torch.nn.Module) -> None:
    before, names = model(IDS).logits, list(model.state_dict())
    attached = pt.attach(model, Houlsby(4, init_std=0.5))
    assert not torch.equal(model(IDS).logits, before)
    assert attached.names == {"default"}
    pt.detach(model)
    assert torch.equal(model(IDS).logits, before)
    assert list(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(BackboneError, match="nothing is attached"):
        pt.detach(model)


def test_two_adapters_are_routed_row_by_row(model: torch.nn.Module) -> None:
    pt.attach(model, Houlsby(4, init_std=0.3), name="a")
    attached = pt.attach(model, Houlsby(6, init_std=0.3), name="b", seed=5)
    last = model(IDS).logits
    with attached.routed(Route.of("ab")):
        mixed = model(IDS).logits
    with attached.routed(Route.of("aa")):
        alone = model(IDS).logits
    torch.testing.assert_close(mixed[1], last[1])
    torch.testing.assert_close(mixed[0], alone[0])
    with pytest.raises(RouteError, match="3 rows meets a batch of 2"), attached.routed(Route.of("aab")):
        model(IDS)
    with pytest.raises(UnknownName, match="'c'"), attached.routed(Route.of("cc")):
        pass
    with pytest.raises(RouteError, match="attached already"):
        pt.attach(model, Houlsby(4), name="a")


def test_a_refused_attach_leaves_the_model_unchanged(model: torch.nn.Module) -> None:
    with pytest.raises(RecipeError, match="trains the backbone's own parameters"):
        pt.attach(model, FullFineTuning())
    with pytest.raises(RecipeError, match="layers 0 to 1"):
        pt.attach(model, Houlsby(layers=(5,)))
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(BackboneError, match="no config"):
        pt.attach(torch.nn.Linear(2, 2), Houlsby())
    from transformers import GPT2Config, GPT2Model

    gpt2 = GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=len(VOCABULARY)))
    with pytest.raises(UnsupportedArchitecture, match="'gpt2'"):
        pt.attach(gpt2, Houlsby())


def test_an_adapter_that_replaces_parameters_is_refused_in_a_mixed_route(tiny_backbone: pt.Backbone) -> None:
    from polytask.adapters.attach import Attached
    from polytask.adapters.module import LoadedAdapter

    full = LoadedAdapter(tiny_backbone, FullFineTuning(), "classification", ("a", "b"), key=(0,))
    attached = Attached(tiny_backbone.model, tiny_backbone.row, tiny_backbone.dropout_source)
    with pytest.raises(RouteError, match=r"'full' has no deltas.*cannot share a batch"):
        attached.add("full", full.deltas)
    with pytest.raises(UnknownName, match="'full'"), attached.routed(Route.of(["full", None])):
        pass
