"""Caching or sharing the frozen prefix changes no result and saves the work, in training and in answering."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.backbones.fast.layer import FastLayer
from polytask.backbones.loading import load_backbone
from polytask.backbones.prefix_cache import SUFFIX, PrefixCache
from polytask.data.batches import Batch, collate
from polytask.data.encoding import Encoded, encode
from polytask.data.task import Rows, Task
from polytask.inference.predict import MultiTask
from polytask.inference.prefix import states_of, with_cached_prefix, with_shared_prefix
from polytask.inference.scoring import scores_of
from polytask.methods import IA3, BitFit, FullFineTuning, Houlsby, LoRA, Method, Pfeiffer, TopLayers
from polytask.packing import Packing
from polytask.training import loop
from polytask.training.checkpoint import Checkpoint
from polytask.training.fused import train_many
from polytask.training.grid import grid
from polytask.training.job import Job, attached_to
from polytask.training.loop import run_jobs, train
from polytask.training.recipe import Recipe
from polytask.training.sweep import sweep
from tests.tiny import ARCHITECTURES, save_tiny

DEPTH = 3
TOP = Houlsby(4, layers=1)
TOP_ENTRY = EntryPoint(2, True)
RECIPE = Recipe(TOP, lr=1e-2, epochs=3, batch_size=8)
EXACT = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny backbone with three layers, made once."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            depth = {"n_layers" if architecture == "distilbert" else "num_hidden_layers": DEPTH}
            made[architecture] = save_tiny(tmp_path_factory.mktemp(architecture), architecture, **depth)
        return made[architecture]

    return folder


@pytest.fixture
def deep(deep_folder: Callable[[str], Path]) -> Backbone:
    """A BERT of three layers in fp64."""
    return load_backbone(deep_folder("bert"), device="cpu", dtype="float64", pooling="mean")


@contextmanager
def counted(backbone: Backbone) -> Iterator[list[int]]:
    """The number of rows of each pass through the lowest layer, within the block."""
    rows: list[int] = []
    layer = next(iter(backbone.model.get_submodule(backbone.row.layers).children()))
    handle = layer.register_forward_pre_hook(lambda _, args: rows.append(num_rows(*args)))
    try:
        yield rows
    finally:
        handle.remove()


def num_rows(hidden: Tensor, mask: Packing | Tensor | None = None) -> int:
    return mask.grid[0] if isinstance(mask, Packing) else len(hidden)


def texts_of(backbone: Backbone) -> Encoded:
    texts = ["good film", "i win and it is great", "the actor was awful at five", "an awful plot", "a"]
    return encode(backbone.tokenizer, Rows(texts, [*texts[1:], "free cash"]), 64)


def entries_of(backbone: Backbone) -> list[EntryPoint]:
    """Where a backbone of three layers can be entered above its embeddings."""
    behind = [backbone.encoder.usable_entry(EntryPoint(layer, True), None) for layer in (1, 2)]
    return sorted({EntryPoint(1), EntryPoint(2), *behind})


def batch_of(backbone: Backbone, encoded: Encoded) -> Batch:
    return collate([(encoded, range(len(encoded)))], backbone.tokenizer.pad_token_id or 0, backbone.device)


def test_the_lowest_layer_is_that_of_the_lowest_site(deep: Backbone) -> None:
    lowest: dict[Method, EntryPoint] = {
        TOP: EntryPoint(2, True),
        Houlsby(4): EntryPoint(0),
        Houlsby(4, layers=(1,)): EntryPoint(1, True),
        Houlsby(4, layers=(0, 2)): EntryPoint(0),
        Pfeiffer(4, layers=1): EntryPoint(2, True),
        LoRA(2, layers=2): EntryPoint(1),
        BitFit(layers=1): EntryPoint(2),
        IA3(layers=1): EntryPoint(2),
        TopLayers(1): EntryPoint(2),
        TopLayers(3): EntryPoint(0),
        FullFineTuning(): EntryPoint(0),
    }
    for method, entry in lowest.items():
        assert LoadedAdapter(deep, method, "regression", (), key=None).lowest == entry, method


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_layers_below_and_the_rest_are_the_whole_model_to_the_bit(
    architecture: str, dtype: str, deep_folder: Callable[[str], Path]
) -> None:
    backbone = load_backbone(deep_folder(architecture), device="cpu", dtype=dtype)
    encoded = texts_of(backbone)
    for texts in (encoded, encoded.take([1]), encoded.take([2, 2])):  # with padding and without
        batch = batch_of(backbone, texts)
        whole = encode_batch(backbone, batch)
        for entry in entries_of(backbone):
            states = backbone.encoder.prefix_states(batch.ids, batch.mask, batch.types, entry)
            parted = encode_batch(backbone, replace(batch, states=states, entry=entry))
            assert torch.equal(parted[0], whole[0])
            assert torch.equal(parted[1], whole[1])


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_states_give_the_answers_of_the_whole_model(
    architecture: str, deep_folder: Callable[[str], Path]
) -> None:
    backbone = load_backbone(deep_folder(architecture), device="cpu", dtype="float64")
    encoded = texts_of(backbone)
    batch = batch_of(backbone, encoded)
    whole = encode_batch(backbone, batch)
    for entry in entries_of(backbone):
        parts = [(encoded, range(len(encoded)))]
        own = encode_batch(backbone, with_cached_prefix(backbone, batch, parts, entry, None))
        tokens = batch.mask.bool()
        torch.testing.assert_close(own[0][tokens], whole[0][tokens], **EXACT)
        torch.testing.assert_close(own[1], whole[1], **EXACT)


def test_the_states_of_a_text_do_not_depend_on_other_texts(minilm: Backbone) -> None:
    lengths = [8, 5, 16, 16, 24, 13, 3, 8, 64]  # some fill their block's width and some do not
    encoded = Encoded([[101, *range(2000, 1998 + length), 102] for length in lengths], [[0] * n for n in lengths], 0)

    def states(*groups: list[int]) -> list[Tensor]:
        minilm.prefixes = PrefixCache()
        found = {}
        for group in groups:
            texts = [(encoded, row) for row in group]
            found.update(zip(group, states_of(minilm, texts, TOP_ENTRY), strict=True))
        return [found[row] for row in range(len(lengths))]

    together = states(list(range(len(lengths))))
    for groups in ([[row] for row in range(len(lengths))], [[7, 3, 1], [8, 0, 6, 5, 4, 2]]):
        for one, other in zip(together, states(*groups), strict=True):
            assert torch.equal(one, other)


def test_a_text_of_the_greatest_length_fits(deep: Backbone) -> None:
    encoded = encode(deep.tokenizer, Rows(["film " * 100]), deep.max_length)
    assert encoded.lengths == [66]
    for entry, width in ((EntryPoint(2), deep.hidden), (TOP_ENTRY, 2 * deep.hidden)):
        (states,) = states_of(deep, [(encoded, 0)], entry)
        assert states.shape == (66, width)


def test_other_tokens_types_layers_precisions_and_backbones_have_other_states(
    deep: Backbone, deep_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    def tell(
        backbone: Backbone, text: str, pair: str | None = None, entry: EntryPoint = TOP_ENTRY
    ) -> tuple[float, ...]:
        rows = Rows([text], None if pair is None else [pair])
        (states,) = states_of(backbone, [(encode(backbone.tokenizer, rows, 64), 0)], entry)
        return tuple(states.double().sum(dim=1).tolist())

    in_fp32 = load_backbone(deep_folder("bert"), device="cpu", dtype="float32", pooling="mean")
    other = load_backbone(save_tiny(tmp_path, seed=1, num_hidden_layers=DEPTH), device="cpu", dtype="float64")
    in_fp32.prefixes = other.prefixes = deep.prefixes
    told = [
        tell(deep, "good film", "a plot"),
        tell(deep, "good film", "a plot", entry=EntryPoint(1, True)),
        tell(deep, "good", "film a plot"),
    ]
    told += [tell(in_fp32, "good film", "a plot"), tell(other, "good film", "a plot"), tell(deep, "good film")]
    assert len(set(told)) == len(told)
    assert tell(deep, "good film", "a plot") == told[0]


def trained(backbone: Backbone, task: Task, recipe: Recipe) -> dict[str, Tensor]:
    job = Job(backbone, task, recipe)
    for _ in run_jobs(backbone, [job]):
        pass
    return {name: parameter.detach().clone() for name, parameter in job.live.tree.named_parameters()}


@pytest.mark.parametrize("method", [TOP, LoRA(2, layers=2, dropout=0.2), TopLayers(1)], ids=lambda method: method.name)
def test_training_with_cached_states_equals_computing_them_each_time(
    method: Method, deep: Backbone, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, method=method)
    kept = trained(deep, tiny_task, recipe)

    def uncached(backbone: Backbone, batch: Batch, parts: object, entry: EntryPoint, _: object) -> Batch:
        backbone.model.eval()
        with torch.no_grad():
            states = backbone.encoder.prefix_states(batch.ids, batch.mask, batch.types, entry)
        backbone.model.train()
        return replace(batch, states=states, entry=entry)

    monkeypatch.setattr(loop, "with_cached_prefix", uncached)
    torch.testing.assert_close(trained(deep, tiny_task, recipe), kept, **EXACT)
    monkeypatch.undo()
    assert any(
        not torch.equal(one, kept[name])
        for name, one in trained(deep, tiny_task, replace(recipe, keep_prefix=False)).items()
    )


def test_entering_before_the_attention_trains_the_same(
    deep: Backbone, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which runs Hugging Face's layers."""
    behind = trained(deep, tiny_task, RECIPE)
    assert deep.encoder.usable_entry(TOP_ENTRY, None) == TOP_ENTRY
    monkeypatch.setattr(FastLayer, "is_usable", lambda *_: False)
    monkeypatch.setattr(FastLayer, "supports_adapters", lambda *_: False)
    assert deep.encoder.usable_entry(TOP_ENTRY, None) == EntryPoint(2)
    torch.testing.assert_close(trained(deep, tiny_task, RECIPE), behind, **EXACT)


def test_without_dropout_keep_prefix_changes_nothing(deep_folder: Callable[[str], Path], tiny_task: Task) -> None:
    backbone = load_backbone(deep_folder("bert"), device="cpu", dtype="float64", pooling="mean")
    for module in backbone.model.modules():
        if type(module).__name__ == "KeyedDropout":
            module.p = 0.0  # type: ignore[assignment]
    kept = trained(backbone, tiny_task, RECIPE)
    torch.testing.assert_close(trained(backbone, tiny_task, replace(RECIPE, keep_prefix=False)), kept, **EXACT)


def test_without_layers_below_keep_prefix_changes_nothing(deep: Backbone, tiny_task: Task) -> None:
    recipe = replace(RECIPE, method=Houlsby(4))
    kept = trained(deep, tiny_task, recipe)
    for name, parameter in trained(deep, tiny_task, replace(recipe, keep_prefix=False)).items():
        assert torch.equal(parameter, kept[name])
    assert deep.prefixes.used_bytes == 0


def test_lower_layers_do_not_run_after_the_first_epoch(deep: Backbone, tiny_task: Task) -> None:
    job = Job(deep, tiny_task, RECIPE)
    passes = []
    with counted(deep) as rows:
        for _ in run_jobs(deep, [job]):
            passes.append((job.epoch, len(rows)))
    after_first = max(count for epoch, count in passes if epoch == 1)
    assert after_first > 0
    assert passes[-1] == (3, after_first)


def test_a_sweep_computes_each_text_once(deep: Backbone, tiny_task: Task) -> None:
    recipes = grid(RECIPE, lr=(1e-3, 1e-2), seeds=2)
    with counted(deep) as rows:
        train(deep, tiny_task, RECIPE)
        once = len(rows)
        sweep(deep, tiny_task, recipes)
        train(deep, tiny_task, replace(RECIPE, method=Pfeiffer(2, layers=1)))
    assert len(rows) == once


def test_embed_norm_stays_frozen(deep: Backbone, tiny_task: Task) -> None:
    adapter, _ = train(deep, tiny_task, RECIPE)
    layers = {name.split(".")[1] for name in adapter.tensors if not name.startswith("head.")}
    assert layers == {"2"}


def test_keep_prefix_is_recorded_and_off_in_the_papers_recipe(deep: Backbone, tiny_task: Task) -> None:
    adapter, result = train(deep, tiny_task, RECIPE)
    assert adapter.header.recipe["keep_prefix"] is result.recipe["keep_prefix"] is True
    assert Recipe.paper().keep_prefix is False


@pytest.mark.parametrize("memory_bytes", [0, 5000])
@pytest.mark.parametrize("with_folder", [False, True])
def test_cache_sizes_change_no_bit(
    memory_bytes: int, with_folder: bool, deep_folder: Callable[[str], Path], tiny_task: Task, tmp_path: Path
) -> None:
    def digest(cache: PrefixCache) -> str:
        backbone = load_backbone(deep_folder("bert"), device="cpu", dtype="float32", pooling="mean")
        backbone.prefixes = cache
        return train(backbone, tiny_task, RECIPE)[0].tensor_digest

    cache = PrefixCache(memory_bytes, tmp_path if with_folder else None, segment_bytes=2000)
    assert digest(cache) == digest(PrefixCache())
    assert cache.used_bytes <= memory_bytes
    assert bool(list(tmp_path.glob(f"*{SUFFIX}"))) == with_folder


def test_interrupted_and_resumed_with_an_empty_cache_is_the_same_run(
    deep_folder: Callable[[str], Path], tiny_task: Task, tmp_path: Path
) -> None:
    def fresh() -> Backbone:
        return load_backbone(deep_folder("bert"), device="cpu", dtype="bfloat16", pooling="mean")

    whole, _ = train(fresh(), tiny_task, RECIPE)
    for stop in (1, 5, 11):
        backbone, checkpoint = fresh(), Checkpoint(tmp_path / "run.ckpt")
        job = Job(backbone, tiny_task, RECIPE)
        for _, _ in zip(range(stop), run_jobs(backbone, [job]), strict=False):
            pass
        checkpoint.write(backbone, [job])
        resumed, _ = train(fresh(), tiny_task, RECIPE, checkpoint=checkpoint, resume=True)
        assert resumed.tensor_digest == whole.tensor_digest


def test_jobs_that_begin_with_different_layers_train_at_once_each_as_alone(deep: Backbone, tiny_task: Task) -> None:
    methods = (TOP, Houlsby(3, layers=2), Houlsby(4), LoRA(2, layers=1, dropout=0.1), TopLayers(1))
    long = replace(
        tiny_task, train=Rows([f"{t} and it is" for t in tiny_task.train.texts], targets=tiny_task.train.targets)
    )
    jobs = {
        f"job{number}": (long if number % 2 else tiny_task, replace(RECIPE, method=method, seed=number, epochs=1))
        for number, method in enumerate(methods)
    }
    together = train_many(deep, jobs)
    for name, (task, recipe) in jobs.items():
        outcome = together[name]
        assert isinstance(outcome, tuple)
        alone, _ = train(deep, task, recipe)
        for tensor, own in alone.tensors.items():
            torch.testing.assert_close(outcome[0].tensors[tensor], own, rtol=0, atol=2e-6)  # files are in fp32


def test_in_fp64_the_first_gradients_at_once_are_those_of_each_alone(deep: Backbone, tiny_task: Task) -> None:
    def grads(*seeds: int) -> list[Tensor]:
        jobs = [Job(deep, tiny_task, replace(RECIPE, seed=seed), name=f"job{seed}") for seed in seeds]
        with attached_to(deep, jobs) as attached:
            sum(loop.forward(deep, attached, jobs)[0]).backward()  # type: ignore[union-attr]
        return [job.optimizer.grad.clone() for job in jobs]

    for one, other in zip(grads(1, 2, 3), [*grads(1), *grads(2), *grads(3)], strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.fixture
def answering(deep: Backbone, tiny_task: Task, tmp_path: Path) -> MultiTask:
    """Adapters in the top layer, in the top two, in all, and a private top layer."""
    store = Store(tmp_path / "store")
    recipe = replace(RECIPE, epochs=1)
    methods = {"top": TOP, "lora": LoRA(2, layers=2), "all": Houlsby(4), "copy": TopLayers(1)}
    for name, method in methods.items():
        task = replace(tiny_task, name=name)
        store.put(train(deep, task, replace(recipe, method=method))[0])
    return MultiTask(deep, store)


def probs(answering: MultiTask, texts: list[str], tasks: list[str]) -> list[dict[str, float]]:
    return [dict(answer.probs or {}) for answer in answering.predict(texts, tasks)]


@pytest.mark.parametrize(
    ("tasks", "num_rows"), [(["top", "lora", "top"], 2), (["top"], 2), (["all", "top"], 4), (["copy"], 2)]
)
def test_tasks_on_the_same_texts_compute_what_they_share_once(
    tasks: list[str], num_rows: int, answering: MultiTask
) -> None:
    texts = ["good film", "the actor was awful at five"]
    asked = [(text, task) for text in texts for task in tasks]
    with counted(answering.backbone) as rows:
        together = probs(answering, *map(list, zip(*asked, strict=True)))  # type: ignore[arg-type]
    assert sum(rows) == num_rows
    for (text, task), answer in zip(asked, together, strict=True):
        (alone,) = probs(answering, [text], [task])
        assert answer == pytest.approx(alone, rel=0, abs=1e-6)


def test_equal_texts_are_put_into_one_batch(answering: MultiTask) -> None:
    texts = [f"{one} {two} film" for one in ("good", "bad", "a") for two in ("plot", "actor", "win", "cash")]
    encoded = encode(answering.backbone.tokenizer, Rows(texts * 2), 64)
    names = [answering.load("top")] * len(texts) + [answering.load("lora")] * len(texts)
    given = (answering.backbone, answering.adapters.attached, answering.adapters)
    with counted(answering.backbone) as rows:
        scores = scores_of(*given, encoded, names, batch_tokens=4 * encoded.lengths[0])
    assert rows == [2] * 6  # a batch of four rows has two texts
    for row in (3, 15):
        (alone,) = scores_of(*given, encoded.take([row]), [names[row]])
        torch.testing.assert_close(scores[row], alone, rtol=0, atol=1e-6)


def test_texts_with_other_token_types_are_not_shared(deep: Backbone) -> None:
    one = encode(deep.tokenizer, Rows(["good"], ["film"]), 64)
    other = Encoded(one.ids, [[0] * len(one.ids[0])], 0)
    batch = collate([(one, [0]), (other, [0]), (one, [0])], 0, deep.device)
    entered = with_shared_prefix(deep, batch, EntryPoint(1), None)
    assert entered.states is not None
    assert torch.equal(entered.states[0], entered.states[2])
    assert not torch.equal(entered.states[0], entered.states[1])
