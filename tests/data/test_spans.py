"""Tasks of kind ``span``: windows, loss, training beside other jobs, predictions and errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode, usual_stride
from polytask.data.task import Answer, Rows, Task
from polytask.errors import DataError, PolytaskError, RecipeError, RouteError
from polytask.evaluation.decision import Decision
from polytask.evaluation.heads import SpanHead
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.inference.scoring import scores_of
from polytask.methods import METHODS, FullFineTuning, Houlsby
from polytask.routing.route import Route
from polytask.training.checkpoint import Checkpoint
from polytask.training.estimate import estimate
from polytask.training.events import Event
from polytask.training.fused import train_many
from polytask.training.job import Job, attached_to
from polytask.training.loop import run_jobs, train
from polytask.training.recipe import Recipe
from polytask.training.sweep import sweep
from polytask.training.tune import tune
from tests.conftest import GOOD

PAIRS = (("film", "great"), ("plot", "awful"), ("actor", "good"), ("game", "bad"), ("team", "free"))
RECIPE = Recipe(Houlsby(8), lr=1e-2, epochs=2, batch_size=4, max_length=32)


def questions(filler: int = 0) -> Rows:
    """Questions about each thing, with a context that describes all of them in a rotated order."""
    texts, contexts, targets = [], [], []
    for shift in range(len(PAIRS)):
        told = [*PAIRS[shift:], *PAIRS[:shift]]
        context = " ".join(f"the {thing} was {what}" + " and you see" * filler for thing, what in told)
        for thing, what in PAIRS:
            texts.append(f"was the {thing}")
            contexts.append(context)
            targets.append((Answer(what, context.index(f"{thing} was {what}") + len(f"{thing} was ")),))
    return Rows(texts, contexts, targets)


@pytest.fixture
def qa() -> Task:
    rows = questions()
    return Task("qa", "span", (), "span_f1", rows, rows.take(range(10)), rows.take(range(5)))


@pytest.fixture
def long_qa() -> Task:
    """Contexts of several windows."""
    rows = questions(filler=6)
    return Task("long", "span", (), "span_f1", rows, rows.take(range(10)))


# The head


def test_padding_changes_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    head = SpanHead(8, 2)
    head.start(torch.Generator().manual_seed(0))
    tokens = torch.randn(2, 6, 8)
    targets = head.targets([(1, 3, 6), (0, 0, 4)], torch.device("cpu"))
    narrow = head.losses(head(tokens), targets)
    padded = torch.cat([tokens, 50 * torch.randn(2, 5, 8)], dim=1).requires_grad_()
    wide = head.losses(head(padded), targets)
    assert torch.equal(narrow, wide)
    wide.sum().backward()
    assert padded.grad is not None
    assert not padded.grad[:, 6:].any()
    assert not padded.grad[1, 4:].any()
    assert padded.grad[1, :4].any()


def test_the_loss_is_the_mean_of_two_cross_entropies() -> None:
    head = SpanHead(2, 2)
    outputs = torch.tensor([[[1.0, 0.0], [3.0, 1.0], [0.0, 2.0], [99.0, 99.0]]])
    start = -np.log(np.exp(3) / np.exp([1, 3, 0]).sum())
    end = -np.log(np.exp(2) / np.exp([0, 1, 2]).sum())
    loss = head.losses(outputs, torch.tensor([[1, 2, 3]]))
    assert loss.tolist() == pytest.approx([(start + end) / 2])


def test_the_head_stays_in_fp32_on_a_bf16_backbone(tiny_bert_folder: Path, qa: Task) -> None:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="bfloat16", pooling="mean")
    job = Job(backbone, qa, RECIPE)
    assert job.live.head.weight.dtype == torch.float32
    assert job.live.head(torch.zeros(1, 3, backbone.hidden, dtype=torch.bfloat16)).dtype == torch.float32


# Windows


def test_contexts_are_read_in_windows_that_hold_every_token(tiny_backbone: Backbone, long_qa: Task) -> None:
    job = Job(tiny_backbone, long_qa, RECIPE)
    assert job.recipe.stride == usual_stride(32) == 10
    assert len(job.train) > 2 * len(long_qa.train)
    assert max(job.train.lengths) <= 32
    owners = np.asarray(job.train.owners)
    for row, (question, context) in enumerate(zip(long_qa.train.texts, long_qa.train.pairs or [], strict=True)):
        windows = job.train.windows_of(np.flatnonzero(owners == row).tolist())
        seen = {tuple(place) for window in windows for place in window.offsets.tolist()}
        assert seen == {match.span() for match in re.finditer(r"\S+", context)}
        asked = tiny_backbone.tokenizer(question, add_special_tokens=False)["input_ids"]
        assert all(window.input_ids[1 : 1 + len(asked)].tolist() == asked for window in windows)
    with_answer = [target for target in job.targets if target[:2] != (0, 0)]
    assert len(long_qa.train) <= len(with_answer) < len(job.targets)
    assert all(
        target[2] == length and target[1] < length
        for target, length in zip(job.targets, job.train.lengths, strict=True)
    )


def test_truncated_questions_are_counted(tiny_backbone: Backbone) -> None:
    rows = Rows(["was it good"] * 2 + ["good " * 30], ["a good film", "a plot " * 40, "a great film " * 20])
    assert encode(tiny_backbone.tokenizer, rows, 32, stride=10).num_truncated == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(40, 512), st.integers(1, 400), st.integers(1, 300))
def test_the_usual_stride_always_leaves_room(max_length: int, num_question: int, num_context: int) -> None:
    from tests.tiny import tiny_tokenizer

    rows = Rows(["a " * num_question], ["b " * num_context])
    encoded = encode(tiny_tokenizer(), rows, max_length, stride=usual_stride(max_length))
    assert max(encoded.lengths) <= max_length
    assert {tuple(o) for w in encoded.windows_of(range(len(encoded))) for o in w.offsets.tolist()} == {
        (2 * at, 2 * at + 1) for at in range(num_context)
    }


# Training


def test_in_float64_a_job_of_spans_beside_other_jobs_is_the_job_alone(
    tiny_bert_folder: Path, qa: Task, long_qa: Task, tiny_task: Task
) -> None:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float64", pooling="mean")
    short = Rows(list(GOOD), targets=[0, 1] * 3)
    several = {
        "short": (replace(tiny_task, train=short), replace(RECIPE, epochs=9)),
        "qa": (qa, RECIPE),
        "long": (long_qa, replace(RECIPE, method=METHODS["lora"](rank=3, dropout=0.1), batch_size=3, max_length=48)),
        "own": (qa, replace(RECIPE, method=FullFineTuning(), lr=1e-3, epochs=1)),
    }
    together = [Job(backbone, *pair, name=name) for name, pair in several.items()]
    assert max(together[2].train.lengths) > max(together[1].train.lengths) > max(together[0].train.lengths)
    for _ in run_jobs(backbone, together):
        pass
    for job in together:
        alone = Job(backbone, *several[job.name], name=job.name)
        for _ in run_jobs(backbone, [alone]):
            pass
        torch.testing.assert_close(job.optimizer.flat, alone.optimizer.flat, rtol=0, atol=1e-9)
        assert [epoch["score"] for epoch in job.history] == [epoch["score"] for epoch in alone.history]


def test_a_tiny_model_learns_where_the_answer_stands(tiny_backbone: Backbone, qa: Task) -> None:
    of_the_film = qa.train.take(range(0, 25, 5))
    task = replace(qa, train=of_the_film, validation=of_the_film)
    recipe = Recipe(Houlsby(16), lr=2e-2, epochs=40, batch_size=5, max_length=32)
    _, result = train(tiny_backbone, task, recipe)
    scores = [epoch["score"] for epoch in result.history]
    assert scores[0] < 0.7
    assert result.validation.score == 1.0
    assert result.validation.metric == "span_f1"
    assert result.majority is None
    assert result.label_counts == {}


def test_a_resumed_run_gives_the_same_bits(tiny_backbone: Backbone, qa: Task, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    seen: list[Event] = []

    def stop(event: Event) -> None:
        seen.append(event)
        if len(seen) == 5:
            raise Stop

    path = tmp_path / "run.ckpt"
    whole, _ = train(tiny_backbone, qa, RECIPE)
    with pytest.raises(Stop):
        train(tiny_backbone, qa, RECIPE, checkpoint=Checkpoint(path, every_s=0), progress=stop)
    resumed, result = train(tiny_backbone, qa, RECIPE, checkpoint=path, resume=True)
    assert resumed.tensor_digest == whole.tensor_digest
    assert result.recipe["stride"] == 10
    assert Recipe.from_json(result.recipe).stride == 10


def test_recipes_of_spans_are_swept_and_tuned_as_each_is_alone(
    tiny_backbone: Backbone, qa: Task, tmp_path: Path
) -> None:
    strides = [replace(RECIPE, stride=stride) for stride in (None, 3)]
    swept = sweep(tiny_backbone, qa, strides, folder=tmp_path, test="all")
    assert sorted(run.recipe.stride or 0 for run in swept.runs) == [3, 10]
    for found in swept.runs:
        adapter, alone = train(tiny_backbone, qa, replace(RECIPE, stride=found.recipe.stride))
        assert found.result is not None
        assert found.result.test == alone.test
        assert found.result.test is not None
        assert found.result.train["tokens"] == alone.train["tokens"]
    assert sweep(tiny_backbone, qa, strides, folder=tmp_path).best.header.digest == swept.best.header.digest
    with pytest.raises(RecipeError, match="a recipe is given twice"):
        sweep(tiny_backbone, qa, [RECIPE, replace(RECIPE, stride=10)])
    tuned = tune(tiny_backbone, qa, replace(RECIPE, lr=None, stride=5), lr=(1e-3, 1e-2), size=(8,))
    assert tuned.recipe.stride == 5
    adapter, _ = train(tiny_backbone, qa, tuned.recipe)
    assert tuned.result.validation.score == pytest.approx(tuned.adapter.header.score)
    torch.testing.assert_close(dict(tuned.adapter.tensors), dict(adapter.tensors), rtol=0, atol=1e-3)


def test_a_job_that_diverges_leaves_the_others_alone(tiny_backbone: Backbone, qa: Task) -> None:
    broken = replace(RECIPE, method=FullFineTuning(), lr=1e30, epochs=20, batch_size=32)
    outcomes = train_many(tiny_backbone, {"a": (qa, RECIPE), "b": (qa, broken)})
    assert isinstance(outcomes["b"], RecipeError)
    assert isinstance(outcomes["a"], tuple)


def test_the_cost_of_training_counts_windows(tiny_backbone: Backbone, long_qa: Task) -> None:
    cost = estimate(tiny_backbone, long_qa, RECIPE)
    assert cost.rows == len(long_qa.train) < cost.texts
    assert cost.recipe["stride"] == 10


# Answers


@pytest.fixture
def store(tiny_backbone: Backbone, qa: Task, long_qa: Task, tiny_task: Task, tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    short = replace(RECIPE, epochs=1)
    for task, recipe in (
        (qa, replace(RECIPE, epochs=4)),
        (long_qa, replace(short, stride=7)),
        (tiny_task, short),
        (replace(qa, name="own"), replace(short, method=FullFineTuning(), lr=1e-3)),
    ):
        store.put(train(tiny_backbone, task, recipe)[0])
    return store


def test_predictions_are_spans_and_score_as_the_trained_job_did(
    tiny_backbone: Backbone, qa: Task, tmp_path: Path
) -> None:
    adapter, result = train(tiny_backbone, qa, replace(RECIPE, epochs=6))
    store = Store(tmp_path)
    store.put(adapter)
    contexts = list(qa.validation.pairs or [])
    answers = MultiTask(tiny_backbone, store).predict(list(qa.validation.texts), "qa", pairs=contexts)
    for answer, context in zip(answers, contexts, strict=True):
        assert (answer.label, answer.labels, answer.probs) == (None, None, None)
        assert context[answer.start : answer.end] == answer.answer
        assert 0 < (answer.score or 0.0) <= 1
        assert list(answer.to_json()) == ["task", "answer", "start", "end", "score"]
    # one word is right here, so that an answer's F1 is 2/(words + 1) if it has the word
    shares = [
        2 / (len([w for w in (a.answer or "").split() if w != "the"]) + 1) if t[0].text in (a.answer or "") else 0.0
        for a, t in zip(answers, qa.validation.targets or [], strict=True)
    ]
    assert np.mean(shares) == pytest.approx(result.validation.score)


def test_answers_equal_trying_every_span_of_every_window(tiny_backbone: Backbone, long_qa: Task) -> None:
    job = Job(tiny_backbone, long_qa, RECIPE)
    encoded = job.validation
    windows = encoded.windows_of(range(len(encoded)))
    with attached_to(tiny_backbone, [job]) as attached:
        found = scores_of(tiny_backbone, attached, {"long": job.live}, encoded, ["long"] * encoded.num_rows)
        logits = []
        for text in range(len(encoded)):  # one at a time, so that nothing is padded
            with torch.inference_mode():
                ids = torch.tensor([encoded.ids[text]])
                types = torch.tensor([(encoded.types or [])[text]])
                with attached.routed(Route.of(["long"])):
                    hidden, _ = tiny_backbone.encoder(ids, torch.ones_like(ids), types)
                logits.append(job.live.head(hidden)[0].numpy())
    assert len(found) == 10 < len(windows)
    for row, best in enumerate(found):
        every: dict[tuple[int, int], float] = {}
        for window, scores in zip(windows, logits, strict=True):
            for i, (begin, _) in enumerate(window.offsets.tolist()):
                for j, (_, end) in enumerate(window.offsets.tolist()):
                    if window.row == row and i <= j < i + 30:
                        score = float(scores[window.context_at + i, 0] + scores[window.context_at + j, 1])
                        every[begin, end] = max(score, every.get((begin, end), -np.inf))
        ranked = sorted(every, key=lambda span: -every[span])[:20]
        assert every[best[0].start, best[0].end] == pytest.approx(every[ranked[0]], abs=1e-4)
        shares = np.exp([every[span] for span in ranked])
        assert best[0].score == pytest.approx(float(shares[0] / shares.sum()), abs=1e-4)
        assert sum(span.score for span in best) == pytest.approx(1.0)


def test_questions_and_texts_of_other_tasks_are_answered_in_one_batch(
    tiny_backbone: Backbone, qa: Task, long_qa: Task, store: Store
) -> None:
    multi = MultiTask(tiny_backbone, store)
    asked = [qa.train.texts[0], "a great film", long_qa.train.texts[1], "an awful plot", qa.train.texts[2]]
    contexts = [(qa.train.pairs or [])[0], None, (long_qa.train.pairs or [])[1], None, (qa.train.pairs or [])[2]]
    tasks = ["qa", "mood", "long", "mood", "own"]
    mixed = multi.predict(asked, tasks, pairs=contexts)
    for text, context, task, answer in zip(asked, contexts, tasks, mixed, strict=True):
        alone = multi.predict([text] if context is None else [(text, context)], task)[0]
        assert (answer.answer, answer.start, answer.label) == (alone.answer, alone.start, alone.label)
        assert answer.score == pytest.approx(alone.score, abs=1e-5)
        assert (answer.probs or {}) == pytest.approx(alone.probs or {}, abs=1e-5)
    assert [answer.label is None for answer in mixed] == [True, False, True, False, True]


def test_the_adapter_stores_its_window_settings(tiny_backbone: Backbone, store: Store) -> None:
    multi = MultiTask(tiny_backbone, store)
    multi.load("long")
    assert multi._cut(multi.adapters["long@1"]) == (32, "truncate", 7)
    shorter = MultiTask(tiny_backbone, store, max_length=24)
    shorter.load("long")
    assert shorter._cut(shorter.adapters["long@1"]) == (24, "truncate", 7)


def test_invalid_questions_are_refused(tiny_backbone: Backbone, qa: Task, store: Store) -> None:
    multi = MultiTask(tiny_backbone, store)
    with pytest.raises(DataError, match="needs a context, and the text has none"):
        multi.predict(["was the film"], "qa")
    with pytest.raises(RouteError, match="2 texts and 1 second texts"):
        multi.predict(["a", "b"], "qa", pairs=["c"])
    with pytest.raises(RouteError, match="pairs already"):
        multi.predict([("a", "b")], "qa", pairs=["c"])
    with pytest.raises(RouteError, match="some texts of one task are pairs"):
        multi.predict(["a", "b"], "mood", pairs=["c", None])
    with pytest.raises(DataError, match="the second text is empty"):
        multi.predict([("was it good", " ")], "qa")
    with pytest.raises(PolytaskError, match="NaN"):
        Prediction.of("qa", Decision("span", ()), ())


def test_a_context_without_tokens_gives_the_empty_answer(tiny_backbone: Backbone, store: Store) -> None:
    multi = MultiTask(tiny_backbone, store)
    name = multi.load("qa")
    encoded = encode(tiny_backbone.tokenizer, Rows(["was it good"], [" "]), 32, stride=10)
    (spans,) = scores_of(tiny_backbone, multi.adapters.attached, multi.adapters, encoded, [name])
    nothing = Prediction.of("qa", Decision("span", ()), spans)
    assert (nothing.answer, nothing.start, nothing.end, nothing.score) == ("", 0, 0, 0.0)


def test_nan_logits_give_no_prediction() -> None:
    head = SpanHead(4, 2)
    assert head.aggregate_windows([torch.full((4, 2), float("nan"))], []) == ()
    assert head.prediction(()) == ()


def test_settings_that_do_not_apply_to_spans_are_refused(tiny_backbone: Backbone, qa: Task, tiny_task: Task) -> None:
    with pytest.raises(RecipeError, match="class weights are for classification; this task is span"):
        Job(tiny_backbone, qa, replace(RECIPE, class_weights="balanced"))
    with pytest.raises(RecipeError, match="long='split' is for texts with labels"):
        Job(tiny_backbone, qa, replace(RECIPE, long="split"))
    with pytest.raises(RecipeError, match="stride=8 is for spans; this task is classification"):
        Job(tiny_backbone, tiny_task, replace(RECIPE, stride=8))
    with pytest.raises(RecipeError, match="neighbouring windows share 20"):
        Job(tiny_backbone, qa, replace(RECIPE, stride=20))
    with pytest.raises(RecipeError, match="stride=-1 is out of range"):
        replace(RECIPE, stride=-1)
    with pytest.raises(DataError, match="a question needs a context, and none is given"):
        Job(tiny_backbone, replace(qa, train=replace(qa.train, pairs=None)), RECIPE)


def test_minilm_memorizes_a_few_questions(minilm: Backbone) -> None:
    contexts = (
        "The Normans were the people who in the 10th and 11th centuries gave their name to Normandy, a region in "
        "France. They were descended from Norse raiders from Denmark, Iceland and Norway, led by Rollo.",
        "Oxygen is a chemical element with symbol O and atomic number 8. It was discovered by Carl Wilhelm Scheele "
        "in Uppsala in 1773, and named in 1777 by Antoine Lavoisier.",
    )
    asked = (
        (0, "In what country is Normandy?", "France"),
        (0, "Who was the Norse leader?", "Rollo"),
        (1, "What is the atomic number of oxygen?", "8"),
        (1, "Who named oxygen?", "Antoine Lavoisier"),
    )
    targets = [(Answer(answer, contexts[at].index(answer)),) for at, _, answer in asked]
    rows = Rows([question for _, question, _ in asked], [contexts[at] for at, _, _ in asked], targets)
    task = Task("qa", "span", (), "span_f1", rows, rows)
    recipe = Recipe(Houlsby(64), lr=5e-3, epochs=30, batch_size=4, max_length=96, warmup=0.2)
    _, result = train(minilm, task, recipe)
    assert result.history[0]["score"] < 0.7
    assert result.validation.score == 1.0
