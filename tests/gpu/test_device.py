"""A device trains and answers as a CPU does in fp32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import polytask as pt
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.inference.scoring import scores_of
from polytask.memory import free_bytes
from polytask.routing.route import Mode
from polytask.training import job as jobs_module
from polytask.training.events import Event, Step
from polytask.training.job import Job, attached_to
from polytask.training.loop import step
from tests.tiny import save_tiny

FolderOf = Callable[[str], Path]
TEXTS = ("a great film", "bad", "the plot was awful and the actor was bad", "win cash now", "it is good it is great")
ARCHITECTURES = ("bert", "mpnet", "modernbert", "llama")
METHODS = (pt.Houlsby(4), pt.LoRA(2), pt.IA3(), pt.LayerNormOnly())
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.02}


def scores(
    backbone: Backbone, method: pt.methods.Method, rows: tuple[int, ...] = (0, 1, 2, 3, 4), mode: Mode = "auto"
) -> torch.Tensor:
    """The scores of these texts, each with an adapter of its own, ``[rows, 3]``."""
    attached, names = Attached.of(backbone), [f"task{row % 3}" for row in rows]
    attached.mode = mode
    loaded = {
        name: LoadedAdapter(backbone, method, "classification", ("a", "b", "c"), key=(name,)).frozen(backbone.dtype)
        for name in dict.fromkeys(names)
    }
    for name, adapter in loaded.items():
        for parameter in adapter.tree.parameters():  # untrained adapters change next to nothing
            parameter.data += 0.1
        attached.add(name, adapter.deltas)
    try:
        texts = encode(backbone.tokenizer, Rows([TEXTS[row] for row in rows]), 16)
        return torch.stack(scores_of(backbone, attached, loaded, texts, names))
    finally:
        for name in loaded:
            attached.remove(name)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_those_of_the_cpu(folder_of: FolderOf, device: str, architecture: str, dtype: str) -> None:
    folder = folder_of(architecture)
    expected = scores(pt.load_backbone(folder, device="cpu", dtype="float32"), pt.Houlsby(4))
    found = scores(pt.load_backbone(folder, device=device, dtype=dtype), pt.Houlsby(4))
    torch.testing.assert_close(found, expected, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_mixed_batch_answers_as_each_text_alone_and_one_after_another(
    tiny_bert_folder: Path, device: str, method: pt.methods.Method
) -> None:
    backbone = pt.load_backbone(tiny_bert_folder, device=device, dtype="float32")
    mixed = scores(backbone, method)
    alone = torch.cat([scores(backbone, method, rows=(row,)) for row in range(len(TEXTS))])
    torch.testing.assert_close(mixed, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed, scores(backbone, method, mode="looped"), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def undropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without dropout: the masks of a GPU are others than those of a CPU."""
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return save_tiny(tmp_path_factory.mktemp("undropped"), "bert", **rates)


def after_steps(folder: Path, device: str, tasks: list[Task], recipe: pt.Recipe, num_steps: int) -> list[torch.Tensor]:
    """The parameters of jobs that train together."""
    backbone = pt.load_backbone(folder, device=device, dtype="float32")
    jobs = [Job(backbone, task, recipe, name=f"job{number}") for number, task in enumerate(tasks)]
    with attached_to(backbone, jobs) as attached:
        for _ in range(num_steps):
            step(backbone, attached, jobs)
    return [job.optimizer.flat.cpu() for job in jobs]


def test_training_steps_are_those_of_the_cpu(undropped: Path, device: str, tiny_task: Task) -> None:
    how = ([tiny_task], pt.Recipe(pt.Houlsby(4), head_dropout=0.0, epsilon=1e-3), 3)
    (expected,), (found,) = after_steps(undropped, "cpu", *how), after_steps(undropped, device, *how)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_jobs_train_together_as_alone(tiny_bert_folder: Path, device: str, tiny_task: Task) -> None:
    recipe = pt.Recipe(pt.Houlsby(4), epsilon=1e-3)
    together = after_steps(tiny_bert_folder, device, [tiny_task, tiny_task.with_train_rows(range(20))], recipe, 3)
    alone = after_steps(tiny_bert_folder, device, [tiny_task], recipe, 3)
    torch.testing.assert_close(together[0], alone[0], atol=1e-5, rtol=1e-3)


def test_an_adapter_of_a_device_answers_on_the_cpu(
    tiny_bert_folder: Path, tmp_path: Path, device: str, tiny_task: Task
) -> None:
    trained_on = pt.load_backbone(tiny_bert_folder, device=device, dtype="float32")
    adapter, _ = pt.train(trained_on, tiny_task, pt.Recipe(pt.Houlsby(4), epochs=1))
    store = pt.Store(tmp_path)
    store.put(adapter)
    expected = pt.MultiTask(trained_on, store).predict(list(TEXTS), "mood")
    found = pt.MultiTask(pt.load_backbone(tiny_bert_folder, device="cpu", dtype="float32"), store)
    for own, other in zip(expected, found.predict(list(TEXTS), "mood"), strict=True):
        assert own.probs == pytest.approx(other.probs, abs=1e-4)


def test_losses_that_are_read_late_are_the_same(
    tiny_bert_folder: Path, device: str, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> tuple[str, list[dict[str, float]], list[Event]]:
        events: list[Event] = []
        backbone = pt.load_backbone(tiny_bert_folder, device=device, dtype="float32")
        recipe = pt.Recipe(pt.Houlsby(4), epochs=2, batch_size=4)
        adapter, result = pt.train(backbone, tiny_task, recipe, progress=events.append)
        return adapter.tensor_digest, result.history, events

    monkeypatch.setattr(jobs_module, "READ_EVERY", {device: 1})
    digest, history, at_once = trained()
    monkeypatch.setattr(jobs_module, "READ_EVERY", {device: 5})
    late_digest, late_history, late = trained()
    assert late_digest == digest
    assert [epoch["loss"] for epoch in late_history] == pytest.approx([epoch["loss"] for epoch in history])
    losses, late_losses = ([event.loss for event in events if isinstance(event, Step)] for events in (at_once, late))
    assert late_losses[:6] == [losses[0]] * 5 + [losses[5]]
    assert late_losses[-1] == losses[-1]


def test_a_loss_that_is_not_finite_is_found_when_it_is_read(
    tiny_bert_folder: Path, device: str, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "READ_EVERY", {device: 100})
    backbone = pt.load_backbone(tiny_bert_folder, device=device, dtype="float32")
    job = Job(backbone, tiny_task, pt.Recipe(pt.Houlsby(4), batch_size=4))
    for loss in (1.0, 1.0, float("inf"), 1.0):
        job.update(torch.tensor(loss, device=device), [0])
    assert job.failure is None
    job.state()
    assert "diverged at step 3" in str(job.failure)


def test_free_memory_is_that_of_the_device(device: str) -> None:
    before = free_bytes(torch.device(device))
    block = torch.ones(64 << 20, device=device)
    assert before - free_bytes(torch.device(device)) > block.numel() or device == "cpu"
