"""The computed memory of a training step is within 20% of what PyTorch's allocator counts."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.methods import METHODS, Houlsby, Method
from polytask.training.activation_memory import step_bytes
from polytask.training.estimate import estimate
from polytask.training.job import Job, attached_to
from polytask.training.loop import step
from polytask.training.recipe import Recipe
from tests.tiny import WORDS, save_tiny

TOLERANCE = 0.2
SMALL = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 4}


def task_of(num_words: int, num_rows: int = 32) -> Task:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=num_words)) for _ in range(num_rows)]
    rows = Rows(texts, targets=[row % 2 for row in range(num_rows)])
    return Task("words", "classification", ("a", "b"), "accuracy", rows, rows)


def measured_peak(backbone: Backbone, job: Job) -> int:
    """The peak of the bytes that one step allocates, counted by PyTorch's allocator."""
    with attached_to(backbone, [job]) as attached:
        step(backbone, attached, [job])
        with torch.profiler.profile(profile_memory=True) as profile:
            step(backbone, attached, [job])
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def ratio(backbone: Backbone, method: Method, num_words: int) -> float:
    job = Job(backbone, task_of(num_words), Recipe(method, batch_size=32, epochs=3, lr=1e-3))
    said = step_bytes(backbone, method, job.live, [len(ids) for ids in job.train.ids])
    return said / measured_peak(backbone, job)


@pytest.fixture(scope="module")
def backbone_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Backbone]:
    made: dict[tuple[str, str], Backbone] = {}

    def backbone(architecture: str, dtype: str) -> Backbone:
        if (architecture, dtype) not in made:
            names = {"dim": 96, "hidden_dim": 384, "n_layers": 4} if architecture == "distilbert" else SMALL
            folder = save_tiny(tmp_path_factory.mktemp(architecture), architecture, **names)
            made[architecture, dtype] = load_backbone(folder, device="cpu", dtype=dtype)
        return made[architecture, dtype]

    return backbone


@pytest.mark.parametrize("num_words", [14, 46])
@pytest.mark.parametrize("method", ["houlsby", "lora", "ia3", "bitfit", "layernorm", "full"])
@pytest.mark.parametrize(
    ("architecture", "dtype"), [("bert", "float32"), ("bert", "bfloat16"), ("distilbert", "float32")]
)
def test_the_computed_peak_is_the_measured_one(
    backbone_of: Callable[[str, str], Backbone], architecture: str, dtype: str, method: str, num_words: int
) -> None:
    said = ratio(backbone_of(architecture, dtype), METHODS[method](), num_words)
    assert said == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("method", ["houlsby", "full"])
def test_the_computed_peak_is_the_measured_one_of_the_real_minilm(minilm: Backbone, method: str) -> None:
    assert ratio(minilm, METHODS[method](), 46) == pytest.approx(1, abs=TOLERANCE)


def test_layers_below_those_that_train_keep_nothing(tiny_backbone: Backbone) -> None:
    task, recipe = task_of(14), Recipe(Houlsby(4), batch_size=32, epochs=1)
    whole, top = (
        estimate(tiny_backbone, task, replace(recipe, method=Houlsby(4, layers=layers))).memory_bytes["step"]
        for layers in (None, 1)
    )
    assert 0.4 * whole < top < 0.7 * whole


def test_a_batch_that_would_not_fit_is_counted_and_not_run(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, recipe = task_of(14, 64), Recipe(Houlsby(4), batch_size=64, epochs=2)
    whole = estimate(tiny_backbone, task, recipe)
    ran: list[int] = []
    forward = type(tiny_backbone.encoder).forward

    def counted(self: torch.nn.Module, ids: torch.Tensor, *others: object, **named: object) -> object:
        ran.append(len(ids))
        return forward(self, ids, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(type(tiny_backbone.encoder), "forward", counted)
    module = importlib.import_module("polytask.training.estimate")
    monkeypatch.setattr(module, "free_bytes", lambda device: whole.memory_bytes["step"] // 4)
    scarce = estimate(tiny_backbone, task, recipe)
    assert (scarce.memory_bytes["step"], scarce.steps) == (whole.memory_bytes["step"], whole.steps)
    assert 0 < max(ran) <= 32
    assert scarce.seconds > 0
