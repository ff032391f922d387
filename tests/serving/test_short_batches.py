"""Short batches: when one thread computes them, that other threads keep theirs, and that the bits stay."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import Encoded
from polytask.inference.predict import MultiTask
from polytask.serving import short_batches
from polytask.serving.engine import DEFAULT_OPTIONS, Engine
from polytask.serving.short_batches import MAX_ROWS, is_short, max_short_tokens, num_threads
from tests.serving.stores import random_adapter

THREADS = 2


@pytest.fixture(autouse=True)
def _threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return load_backbone("minilm", device="cpu", dtype="bfloat16")


def threads_in_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: (torch.ones(4).sum(), found.append(torch.get_num_threads())))
    thread.start()
    thread.join()
    return found[0]


def text(num_tokens: int, windows: int = 1) -> Encoded:
    return Encoded([[7] * num_tokens] * windows, None, 0)


def test_few_tokens_in_few_rows_are_short() -> None:
    assert is_short([text(16), text(16)], 32)
    assert not is_short([text(16), text(17)], 32)
    assert not is_short([text(16)], 0)
    assert not is_short([text(1)] * (MAX_ROWS + 1), 32)
    assert not is_short([text(2, windows=MAX_ROWS + 1)], 32)
    assert not is_short([Encoded([[7]], None, 0, owners=[0], windows=[None])], 32)


def test_only_this_thread_computes_with_another_number_of_threads_and_only_within_the_block() -> None:
    entered, leave = threading.Event(), threading.Event()
    seen: list[int] = []

    def compute() -> None:
        with num_threads(1):
            seen.append(torch.get_num_threads())
            entered.set()
            leave.wait(60)
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=compute)
    thread.start()
    entered.wait(60)
    assert torch.get_num_threads() == THREADS
    leave.set()
    thread.join()
    assert seen == [1, THREADS]
    assert threads_in_new_thread() == THREADS

    def fail() -> None:
        with num_threads(1):
            raise RuntimeError("a poisoned row")

    with pytest.raises(RuntimeError, match="poisoned"):
        fail()
    assert torch.get_num_threads() == threads_in_new_thread() == THREADS


def test_the_largest_size_up_to_which_one_thread_is_faster_is_chosen(
    minilm: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster = iter([True, True, False])
    monkeypatch.setattr(short_batches, "_is_faster_alone", lambda run: next(faster))
    assert max_short_tokens(minilm) == short_batches.SIZES[1]
    torch.set_num_threads(1)
    assert max_short_tokens(minilm) == 0


def test_float32_always_uses_all_threads(backbone: Backbone) -> None:
    assert backbone.dtype == torch.float32
    assert max_short_tokens(backbone) == 0


def test_the_measurement_leaves_the_number_of_threads_as_it_was(minilm: Backbone) -> None:
    assert max_short_tokens(minilm) in (0, *short_batches.SIZES)
    assert torch.get_num_threads() == threads_in_new_thread() == THREADS


def test_the_number_of_threads_does_not_change_a_bit_of_an_answer(minilm: Backbone, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for task, labels in (("two", ("a", "b")), ("many", tuple(f"l{n}" for n in range(77)))):
        store.put(random_adapter(minilm, task, labels=labels))
    engine, library = Engine(minilm, store, batch_tokens=2048), MultiTask(minilm, store)
    names = ["two@1", "many@1"] * (MAX_ROWS // 2)
    for name in names:
        engine.load(name)
    for words in (1, 3, 7, 12, 26):
        texts = [" ".join(["film"] * (words + n)) for n in range(MAX_ROWS)]
        for rows in range(1, MAX_ROWS + 1):
            own = engine.tokenize(texts[:rows], [[name] for name in names[:rows]], [DEFAULT_OPTIONS] * rows)
            batch = [row for (row,) in own]
            answers = {}
            for engine.max_short_tokens in (0, 10_000):
                answers[engine.max_short_tokens] = [answer.probs for answer in engine.answer(batch)]
            assert answers[0] == answers[10_000]
            tasks = [name.partition("@")[0] for name in names[:rows]]
            assert answers[0] == [answer.probs for answer in library.predict(texts[:rows], tasks)]
