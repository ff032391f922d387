"""Whoever types the names of another library is told ours."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

import polytask as pt
from polytask.counterparts import NAMES, SETTINGS
from polytask.errors import PolytaskError, RecipeError
from polytask.methods import METHODS


@pytest.mark.parametrize("name", sorted(NAMES.keys() - {"sklearn"}))  # another test may have imported this module
def test_a_name_of_another_library_is_answered_with_ours(name: str) -> None:
    with pytest.raises(AttributeError, match="Here it is: "):
        getattr(pt, name)
    assert not hasattr(pt, name)


def test_a_name_that_is_nearly_right_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'read_tasks'. Did you mean 'read_task'"):
        pt.read_tasks  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'. See help\(polytask\)"):
        pt.zzz  # noqa: B018


def test_each_counterpart_is_a_setting_of_a_method_or_a_recipe() -> None:
    every: list[Any] = [pt.Recipe, *METHODS.values()]
    assert set(SETTINGS.values()) <= {field.name for kind in every for field in fields(kind)}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pt.LoRA(r=8), "LoRA has no setting 'r'. Did you mean 'rank'"),
        (lambda: pt.LoRA(lora_alpha=16), "Did you mean 'alpha'"),
        (lambda: pt.LoRA(target_modules=["query"]), "Did you mean 'linears'"),
        (lambda: pt.LoRA(linears="query"), "Give a tuple of names: \\('query',\\)"),  # type: ignore[arg-type]
        (lambda: pt.Houlsby(reduction_factor=16), "Did you mean 'size'"),
        (lambda: pt.Recipe(learning_rate=1e-3), "Recipe has no setting 'learning_rate'. Did you mean 'lr'"),
        (lambda: pt.Recipe(num_train_epochs=3), "Did you mean 'epochs'"),
        (lambda: replace(pt.IA3(), zzz=3), "IA3 has no setting 'zzz'. There are: layers"),
    ],
)
def test_a_setting_of_another_library_is_answered_with_ours(make: Callable[[], object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        make()


def test_methods_and_recipes_keep_their_signature_and_pickle() -> None:
    assert list(inspect.signature(pt.LoRA).parameters)[:2] == ["rank", "alpha"]
    for value in (pt.LoRA(4, layers=2), pt.Recipe(pt.Houlsby(8), lr=1e-3)):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    assert list(inspect.signature(pt.train).parameters)[:3] == ["backbone", "task", "recipe"]


Call = Callable[[pt.Backbone, pt.Task], object]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda b, t: pt.train(b, t, epochs=1), r"Settings go in the recipe: pt.Recipe\(epochs=1\)"),
        (lambda b, t: pt.train(b, t, learning_rate=0.1), r"pt.Recipe\(lr=0.1\)"),
        (lambda b, t: pt.train(b, t, r=8), r"pt.Recipe\(pt.LoRA\(rank=8\)\)"),
        (lambda b, t: pt.train(b, t, progres=print), "Did you mean 'progress'"),
        (lambda b, t: pt.train(b, t, pt.LoRA()), "^LoRA.* is not a Recipe. Make one"),
        (lambda b, t: pt.train(b, "spam.csv"), "str 'spam.csv' is not a Task. Make one"),
        (lambda b, t: pt.train(t, b), "<Backbone .* is not a Task"),
        (lambda b, t: pt.train_many(b, [t]), r"Task is not a job. A job is a pair: \(task, pt.Recipe"),
        (lambda b, t: pt.train_many(b, {"a": (t, None)}), "None is not a Recipe"),
        (lambda b, t: pt.tune(b, t, epochs=1), "tune has no argument 'epochs'"),
        (lambda b, t: pt.MultiTask("minilm", pt.Store("adapters")), "str is not a Backbone. Load one"),
        (lambda b, t: pt.export_adapter("spam", "folder", "peft"), "str is not an adapter. Read it"),
        (lambda b, t: pt.attach(b, pt.LoRA()), "train on it with pt.train"),
        (lambda b, t: pt.attach("bert-base", pt.LoRA()), "Load one: AutoModel"),
        (lambda b, t: pt.attach(b.model, "lora"), "'lora' is not a method. Give one, such as pt.LoRA"),
        (lambda b, t: pt.attach(b.model, pt.LoRA), "is not a method"),
        (lambda b, t: pt.save_attached("folder", b.model), "nothing is attached to this str"),
        (lambda b, t: pt.load_attached("folder", b.model), "The model comes first, then the folder"),
        (lambda b, t: pt.load_backbone(b.model), "by a hub id or a folder, not by BertModel BertModel"),
        (lambda b, t: pt.read_task(None, "spam"), "there are no training rows"),
        (lambda b, t: pt.MultiTask(b, pt.Store("adapters")).predict(["a"], 3), "3 is not a task's name"),
    ],
)
def test_what_is_given_for_something_else_is_one_sentence(
    call: Any, said: str, tiny_backbone: pt.Backbone, tiny_task: pt.Task
) -> None:
    with pytest.raises(PolytaskError, match=said):
        call(tiny_backbone, tiny_task)


def test_an_attached_adapter_tells_its_size(tiny_bert_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert_folder)
    num_frozen = sum(parameter.numel() for parameter in model.base_model.parameters())
    added = 2 * 2 * (32 * 4 + 4 * 32)  # layers, linears, down and up
    said = repr(pt.attach(model, pt.LoRA(rank=4)))
    assert said == f"<Attached to bert: default (lora), {added:,} parameters beside the encoder's {num_frozen:,}>"


def test_columns_without_names_are_named_by_their_numbers() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({0: ["good", "bad", "great", "awful"] * 5, 1: [1, 0, 1, 0] * 5})
    with pytest.raises(PolytaskError, match="text=0, label=1"):
        pt.read_task(frame, "mood")
    assert len(pt.read_task(frame, "mood", text=0, label=1).train) == 10  # type: ignore[arg-type]
