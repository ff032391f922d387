"""Concurrent calls on one backbone, from threads or asyncio, give the answers of serial calls.

Answers are compared bit for bit. No test looks at a clock.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from polytask.adapters.adapter import Adapter
from polytask.adapters.attach import attach
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows, Target, Task
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.methods import METHODS, Houlsby, LoRA, Method
from polytask.routing.route import Route
from polytask.training.events import Step
from polytask.training.fused import train_many
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.conftest import BAD, GOOD

TEXTS = (*GOOD, *BAD, "a film", "you win", "the plot was not great at all and they vote", "bad")
CALLS, THREADS = 6, 6

Ask = tuple[list[str], list[str]]


def stored(backbone: Backbone, task: Task, folder: Path) -> Store:
    """A store with an adapter of each method, and heads of two and three labels, multi-label and regression."""
    store = Store(folder)

    def rows(targets: list[Target]) -> Rows:
        return Rows(task.train.texts, targets=targets)

    every = range(len(task.train))
    label_sets: list[Target] = [(row % 2,) for row in every]
    scores, thirds = rows([row % 5 / 2 for row in every]), rows([row % 3 for row in every])
    others = {
        "three": replace(task, labels=("x", "y", "z"), train=thirds, validation=thirds),
        "stars": Task("stars", "regression", (), "pearson", scores, scores),
        "several": replace(
            task, kind="multilabel", metric="macro_f1", train=rows(label_sets), validation=rows(label_sets)
        ),
    }
    named = {**{name: (task, method()) for name, method in METHODS.items()}}
    named |= {name: (other, Houlsby(3)) for name, other in others.items()}
    for name, (other, method) in named.items():
        store.put(train(backbone, replace(other, name=name), Recipe(method, epochs=1, batch_size=16))[0])
    return store


@pytest.fixture(scope="module")
def backbone(tiny_bert_folder: Path) -> Backbone:
    return load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")


@pytest.fixture(scope="module")
def mood() -> Task:
    rows = Rows([*GOOD, *BAD] * 4, targets=([1] * len(GOOD) + [0] * len(BAD)) * 4)
    return Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows.take(range(12)), None)


@pytest.fixture(scope="module")
def store(backbone: Backbone, mood: Task, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(backbone, mood, tmp_path_factory.mktemp("store"))


def asks(names: Sequence[str], seed: int) -> list[Ask]:
    """Mixed batches of several sizes and lengths."""
    draw = random.Random(seed)
    sizes = [draw.randint(1, 12) for _ in range(CALLS)]
    return [([draw.choice(TEXTS) for _ in range(size)], [draw.choice(names) for _ in range(size)]) for size in sizes]


def at_once(works: Sequence[Callable[[], object]]) -> list[object]:
    """The results of these calls, started together in a thread each; the first error is raised."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> object:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [done.result() for done in [pool.submit(begin, work) for work in works]]


def answered(multi: MultiTask, of_thread: Sequence[Ask]) -> list[list[Prediction]]:
    return [multi.predict(texts, tasks) for texts, tasks in of_thread]


def test_threads_that_share_a_multitask_get_the_serial_answers_bit_for_bit(backbone: Backbone, store: Store) -> None:
    of_threads = [asks(store.tasks(), seed) for seed in range(THREADS)]
    multi = MultiTask(backbone, store)
    serial = [answered(multi, own) for own in of_threads]
    shared = MultiTask(backbone, store)
    assert at_once([lambda own=own: answered(shared, own) for own in of_threads]) == serial
    assert [answered(multi, own) for own in of_threads] == serial, "a serial call afterwards is not what it was"


@pytest.mark.parametrize("method", METHODS)
def test_threads_with_one_adapter_get_the_serial_answers(backbone: Backbone, store: Store, method: str) -> None:
    of_threads = [asks([method], seed) for seed in range(2)]
    multi = MultiTask(backbone, store)
    serial = [answered(multi, own) for own in of_threads]
    assert at_once([lambda own=own: answered(multi, own) for own in of_threads]) == serial


def test_two_multitasks_on_one_backbone_are_independent(backbone: Backbone, store: Store) -> None:
    of_threads = [asks(store.tasks(), seed) for seed in range(THREADS)]
    serial = [answered(MultiTask(backbone, store), own) for own in of_threads]
    assert at_once([lambda own=own: answered(MultiTask(backbone, store), own) for own in of_threads]) == serial


def test_loading_and_unloading_during_calls_changes_no_answer(backbone: Backbone, store: Store) -> None:
    names = store.tasks()
    of_threads = [asks(names, seed) for seed in range(4)]
    multi = MultiTask(backbone, store)
    serial = [answered(multi, own) for own in of_threads]

    def storm() -> None:
        for name in names * CALLS:
            multi.unload(name)
            multi.load(name)

    given = at_once([*(lambda own=own: answered(multi, own) for own in of_threads), storm])
    assert given[:-1] == serial
    for name in names:
        multi.unload(name)
    assert not multi.adapters
    assert not multi.adapters.attached.names


def test_an_adapter_that_many_threads_need_is_read_once(backbone: Backbone, store: Store) -> None:
    reads: list[str] = []

    class Counting(Store):
        def get(self, name: str) -> Adapter:
            reads.append(name)
            return super().get(name)

    multi = MultiTask(backbone, Counting(store._files.path()))
    at_once([lambda: multi.load("houlsby")] * THREADS)
    assert reads == ["houlsby@1"]


def test_training_goes_to_the_same_bits_while_others_predict_and_train(
    backbone: Backbone, mood: Task, store: Store
) -> None:
    jobs: dict[str, tuple[Task, Recipe]] = {
        "a": (mood, Recipe(Houlsby(4), epochs=2, batch_size=16)),
        "b": (mood, Recipe(LoRA(2, dropout=0.1), epochs=2, batch_size=8)),
    }
    alone = Recipe(Houlsby(3), epochs=2, batch_size=8, seed=1)
    own = Recipe(METHODS["full"](), epochs=1, batch_size=16)

    def trained(recipe: Recipe) -> dict[str, torch.Tensor]:
        return dict(train(backbone, mood, recipe)[0].tensors)

    def trained_many() -> dict[str, dict[str, torch.Tensor]]:
        outcomes = train_many(backbone, jobs)
        return {name: dict(outcome[0].tensors) for name, outcome in outcomes.items()}  # type: ignore[index]

    own_asks = asks(store.tasks(), 1)
    works: list[Callable[[], object]] = [
        lambda: trained(alone),
        lambda: trained(own),
        trained_many,
        lambda: answered(MultiTask(backbone, store), own_asks),
    ]
    serial = [work() for work in works]
    together = at_once(works)
    for one, other in zip(serial[:2], together[:2], strict=True):
        assert_same(one, other)
    for name in jobs:
        assert_same(serial[2][name], together[2][name])  # type: ignore[index]
    assert together[3] == serial[3]
    assert not backbone.model.training


def assert_same(one: object, other: object) -> None:
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_predict_answers_while_a_training_is_half_done(backbone: Backbone, mood: Task, store: Store) -> None:
    multi = MultiTask(backbone, store)
    texts, tasks = asks(store.tasks(), 2)[0]
    serial, recipe = multi.predict(texts, tasks), Recipe(Houlsby(4), epochs=3, batch_size=8)
    undisturbed = dict(train(backbone, mood, recipe)[0].tensors)
    answers, seen, is_over = [], [], threading.Event()
    has_begun, has_answer = threading.Event(), threading.Event()

    def ask() -> None:
        has_begun.wait()
        answers.append(multi.predict(texts, tasks))
        seen.append(is_over.is_set())
        has_answer.set()

    def progress(event: object) -> None:
        if isinstance(event, Step) and event.step == 3:
            has_begun.set()
        if isinstance(event, Step) and event.step == event.num_steps - 1:
            has_answer.wait()  # a training that kept the backbone to itself would wait here for ever

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    adapter, _ = train(backbone, mood, recipe, progress=progress)
    is_over.set()
    thread.join()
    assert answers == [serial]
    assert seen == [False]
    assert_same(undisturbed, dict(adapter.tensors))


def test_a_training_that_starts_while_a_replacement_answers_starts_from_the_backbone(
    backbone: Backbone, mood: Task, store: Store
) -> None:
    """A replacement's parameters stand in the model while it answers; a Houlsby adapter starts from its LayerNorms."""
    recipe = Recipe(Houlsby(4), epochs=1, batch_size=16)
    undisturbed = dict(train(backbone, mood, recipe)[0].tensors)
    multi = MultiTask(backbone, store)
    multi.load("full")
    threads: list[threading.Thread] = []
    tensors: list[dict[str, torch.Tensor]] = []

    def start_training(*_: object) -> None:
        if not threads:
            threads.append(
                threading.Thread(target=lambda: tensors.append(dict(train(backbone, mood, recipe)[0].tensors)))
            )
            threads[0].start()
            while not backbone.lock._waiting:
                pass

    hook = backbone.model.embeddings.register_forward_hook(start_training)  # type: ignore[union-attr, operator]
    try:
        multi.predict(["good film"], "full")
    finally:
        hook.remove()
    threads[0].join()
    assert_same(undisturbed, tensors[0])


def test_asyncio_to_thread_gets_the_serial_answers(backbone: Backbone, store: Store) -> None:
    of_threads = [asks(store.tasks(), seed) for seed in range(4)]
    multi = MultiTask(backbone, store)
    serial = [answered(multi, own) for own in of_threads]

    async def ask() -> list[list[list[Prediction]]]:
        return await asyncio.gather(*(asyncio.to_thread(answered, multi, own) for own in of_threads))

    assert asyncio.run(ask()) == serial


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_a_model_of_ones_own_with_adapters_runs_in_threads(folder_of: Callable[[str], Path], architecture: str) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder_of(architecture), num_labels=2).eval()
    methods: dict[str, Method] = {"a": Houlsby(4), "b": LoRA(2), "c": METHODS["parallel"](size=3)}
    for name, method in methods.items():
        attached = attach(model, method, name=name, seed=3)
    for parameter in model.get_submodule("polytask").parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(5, 20, (6, 9), generator=torch.Generator().manual_seed(0))
    routes = ["aabbcc", "abcabc", "cccbbb", "aaaaaa", None]

    @torch.no_grad()
    def answers(route: str | None) -> list[torch.Tensor]:
        found = []
        for _ in range(CALLS):
            if route is None:
                found.append(model(ids).logits)
            else:
                with attached.routed(Route.of(route)):
                    found.append(model(ids).logits)
        return found

    serial = [answers(route) for route in routes]
    together = at_once([lambda route=route: answers(route) for route in routes])
    for one, other in zip(serial, together, strict=True):
        assert isinstance(other, list)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_asyncio_to_thread_copies_the_route(tiny_bert_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert_folder, num_labels=2).eval()
    for name in "ab":
        attached = attach(model, Houlsby(4), name=name)
    for parameter in model.get_submodule("polytask").parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(5, 20, (2, 9), generator=torch.Generator().manual_seed(0))
    with attached.routed(Route.of("ab")):
        expected = model(ids).logits

    async def ask() -> torch.Tensor:
        with attached.routed(Route.of("ab")):
            return (await asyncio.to_thread(model, ids)).logits

    assert torch.equal(asyncio.run(ask()), expected)


def test_one_tokenizer_cuts_to_each_threads_own_length(backbone: Backbone) -> None:
    rows, lengths = Rows([" ".join(TEXTS)] * 50), (5, 9, 13, 32)

    def cut(length: int) -> list[list[int]]:
        return [ids for _ in range(CALLS) for ids in encode(backbone.tokenizer, rows, length).ids]

    serial = [cut(length) for length in lengths]
    assert at_once([lambda length=length: cut(length) for length in lengths]) == serial
