"""Adapters on a user's own model under transformers' Trainer and under accelerate, with gradient checkpointing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import polytask as pt
from polytask.adapters import pretrained
from polytask.errors import AdapterError, BackboneError, WrongBackbone
from polytask.methods import IA3, BitFit, Houlsby, LayerNormOnly, LoRA, Parallel, Pfeiffer
from tests.tiny import save_tiny

IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 10, 11, 3]] * 4)
LABELS = torch.tensor([0, 1] * 4)
ROWS = [{"input_ids": ids, "labels": label} for ids, label in zip(IDS, LABELS, strict=True)]
METHODS = (Houlsby(4), Pfeiffer(4), Parallel(4), LoRA(4, dropout=0.1), IA3(), BitFit(), LayerNormOnly())


def fresh(folder: Path, dropout: float = 0.1) -> Any:
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, **rates)


def test_trainer_trains_adapter_and_classifier_only_and_they_are_saved_and_loaded(
    tiny_bert_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model = fresh(tiny_bert_folder, dropout=0.0)
    before = copy.deepcopy(model.state_dict())
    pt.attach(model, Houlsby(4, init_std=0.1))
    arguments = TrainingArguments(
        str(tmp_path / "runs"),
        max_steps=80,
        learning_rate=3e-2,
        per_device_train_batch_size=4,
        save_steps=40,
        gradient_checkpointing=True,
        report_to=[],
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, train_dataset=ROWS)
    trainer.train()
    changed = {name for name, tensor in model.state_dict().items() if name in before and not tensor.equal(before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert model.eval()(IDS).logits.argmax(dim=-1).equal(LABELS)

    pt.save_attached(model, tmp_path / "trained")
    another = fresh(tiny_bert_folder)
    pt.load_attached(another, tmp_path / "trained")
    torch.testing.assert_close(another.eval()(IDS).logits, model.eval()(IDS).logits, rtol=0, atol=0)

    resumed = fresh(tiny_bert_folder, dropout=0.0)
    pt.attach(resumed, Houlsby(4, init_std=0.1))
    again = Trainer(resumed, arguments, train_dataset=ROWS)
    again.train(resume_from_checkpoint=str(tmp_path / "runs" / "checkpoint-40"))
    torch.testing.assert_close(resumed.eval()(IDS).logits, model.eval()(IDS).logits)


def test_accelerate_trains_what_a_plain_loop_trains(tiny_bert_folder: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    models = [fresh(tiny_bert_folder).eval() for _ in range(2)]
    for model in models:
        pt.attach(model, LoRA(4))
    plain, wrapped = models
    optimizers = [torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-2) for m in models]
    accelerator = accelerate.Accelerator(cpu=True)
    prepared, optimizer = accelerator.prepare(wrapped, optimizers[1])
    for _ in range(5):
        plain(IDS, labels=LABELS).loss.backward()
        accelerator.backward(prepared(IDS, labels=LABELS).loss)
        for each in (optimizers[0], optimizer):
            each.step()
            each.zero_grad()
    torch.testing.assert_close(wrapped(IDS).logits, plain(IDS).logits)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_gradients_are_the_same_with_checkpointing(method: pt.Method, tiny_bert_folder: Path) -> None:
    gradients = []
    for checkpoints in (False, True):
        model = fresh(tiny_bert_folder)
        if checkpoints:
            model.gradient_checkpointing_enable()
        pt.attach(model, method)
        model.train()
        torch.manual_seed(1)
        model(IDS, labels=LABELS).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        assert all(gradient is not None for gradient in gradients[-1].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_saving_keeps_all_adapters_and_their_methods(tiny_bert_folder: Path, tmp_path: Path) -> None:
    model = fresh(tiny_bert_folder).eval()
    pt.attach(model, Houlsby(4, init_std=0.3), name="a")
    pt.attach(model, LoRA(2), name="b")
    pt.save_attached(model, tmp_path)
    assert (tmp_path / "attached.safetensors").stat().st_size < 100_000
    another = fresh(tiny_bert_folder).eval()
    attached = pt.load_attached(another, tmp_path)
    assert attached.methods == {"a": Houlsby(4, init_std=0.3), "b": LoRA(2)}
    for name in "ab":
        attached.default = pretrained.attached_to(model).default = name  # type: ignore[attr-defined]
        torch.testing.assert_close(another(IDS).logits, model(IDS).logits, rtol=0, atol=0)


def test_another_encoder_another_head_and_a_missing_file_are_refused(tiny_bert_folder: Path, tmp_path: Path) -> None:
    model = fresh(tiny_bert_folder)
    with pytest.raises(BackboneError, match="nothing is attached"):
        pt.save_attached(model, tmp_path / "trained")
    pt.attach(model, Houlsby(4))
    pt.save_attached(model, tmp_path / "trained")
    other = fresh(save_tiny(tmp_path / "other", seed=1))
    names = list(other.state_dict())
    with pytest.raises(WrongBackbone, match="another encoder"):
        pt.load_attached(other, tmp_path / "trained")
    assert list(other.state_dict()) == names
    three = AutoModelForSequenceClassification.from_pretrained(tiny_bert_folder, num_labels=3)
    with pytest.raises(AdapterError, match="does not fit"):
        pt.load_attached(three, tmp_path / "trained")
    with pytest.raises(AdapterError, match="not what save_attached writes"):
        pt.load_attached(fresh(tiny_bert_folder), tmp_path / "nowhere")
