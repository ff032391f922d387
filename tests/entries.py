"""Entries of a ledger for tests, as if they had been run: real objects, invented scores."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from polytask.methods import FullFineTuning, Houlsby, LayerNormOnly, LoRA, Method, Parallel, TopLayers, described
from polytask.paper.ledger import Entry, Trial
from polytask.suites.glue import GLUE
from polytask.suites.tasks import Suite
from polytask.suites.text17 import TEXT17
from polytask.training.recipe import Recipe
from polytask.training.result import Score

LAYERS, HIDDEN, BACKBONE = 6, 384, 22_565_376
TFIDF = "tfidf"
MINILM = {
    "name": "minilm",
    "architecture": "bert",
    "fingerprint": "0f" * 32,
    "layers": LAYERS,
    "hidden": HIDDEN,
    "parameters": BACKBONE,
}
HOULSBY = Houlsby(64)
NO_BACKBONE = {"name": None, "fingerprint": ""}


def trained_by(method: Method) -> int:
    """Parameters below the head on a backbone of six layers of 384."""
    norms = 2 * HIDDEN * (2 * LAYERS + 1)
    if isinstance(method, Houlsby):
        return norms + 2 * LAYERS * (2 * method.size * HIDDEN + HIDDEN + method.size)
    if isinstance(method, TopLayers):
        return method.n * 1_774_464
    return {"layernorm": norms, "full": BACKBONE}.get(method.name, 200_000)


def entry(
    task: str = "CoLA",
    method: Method | float = HOULSBY,
    validation: float | None = 0.5,
    test: float | None = 0.5,
    *,
    lr: float = 1e-3,
    seed: int = 0,
    epochs: int = 5,
    max_rows: int | None = None,
    is_sample: bool = False,
    measured: dict[str, Any] | None = None,
    rows: tuple[int, int, int] | None = None,
    **given: Any,
) -> Entry:
    """One entry; without scores it diverged. A number instead of a method is the strength of TF-IDF's words."""
    suite = suite_of(task)
    known = GLUE.get(task) or TEXT17.get(task)
    train, _, other = known.rows if known else (87_599, 0, 10_570)
    metric = known.metric if task in GLUE else "f1" if suite == "squad" else "accuracy"  # type: ignore[union-attr]
    reported = known.rows[1] if task in GLUE else other  # type: ignore[union-attr]
    counts = rows or (min(train, max_rows or train), 250, reported)
    if isinstance(method, float):
        recipe: dict[str, Any] = {"method": {"name": TFIDF, "C": method}, "seed": seed}
        backbone, parameters = NO_BACKBONE, {}
    else:
        recipe = Recipe(method, lr=lr, epochs=epochs, seed=seed, max_length=128).to_json()
        assert recipe["method"] == described(method)
        count = trained_by(method)
        backbone = MINILM
        parameters = {"trained": count, "head": 770, "backbone": BACKBONE, "percent": 100 * count / BACKBONE}
    trial = Trial("cpu", suite, task, recipe, max_rows, ("ablation",) if measured else ())
    diverged = validation is None or test is None
    made: dict[str, Any] = {
        "trial": trial,
        "key": trial.key(str(backbone["fingerprint"]), f"rows of {task}"),
        "backbone": backbone,
        "data": {
            "digest": f"rows of {task}",
            **dict(zip(("train", "validation", "test"), counts)),
            "is_sample": is_sample,
            "notes": [f"{task}: a sample, read from {task}_sample"] if is_sample else [],
        },
        "parameters": parameters,
        "validation": None if diverged else Score(metric, validation, counts[1]),  # type: ignore[arg-type]
        "test": None if diverged else Score(metric, test, counts[2]),  # type: ignore[arg-type]
        "metrics": {} if diverged else {metric: test, "accuracy": test},
        "measured": measured or {},
        "epochs": epochs,
        "seconds": 60.0,
        "failure": "the loss is not a number" if diverged else None,
        "environment": {
            "dtype": "float32",
            "device": "cpu",
            "threads": 1,
            "hardware": "a processor",
            "cores": 2,
            "versions": {"polytask": "0.1.0", "torch": "2.13.0"},
        },
    }
    if task == "MNLI-m" and not diverged:
        made["also"] = {"MNLI-mm": Score(metric, test, counts[2])}  # type: ignore[arg-type]
    return Entry(**{**made, **given})


def suite_of(task: str) -> Suite:
    return "glue" if task in GLUE else "text17" if task in TEXT17 else "squad"


def whole_ledger(tasks: Sequence[str] | None = None, seeds: int = 3) -> list[Entry]:
    """Every exhibit's entries with scores that look like the paper's, on all tasks or on these."""
    every = [name for name, task in GLUE.items() if task.in_mean and name != "MNLI-mm"]
    every += [*TEXT17, "squad"]
    found: dict[str, Entry] = {}
    for task in every if tasks is None else tasks:
        for made in _of_task(task, seeds):
            found[made.key] = made
    return list(found.values())


def _of_task(task: str, seeds: int) -> list[Entry]:
    base = GLUE_LIKE.get(task) or (TEXT17[task].full / 100 if task in TEXT17 else 0.88)
    is_sample = task in ("QQP", "MNLI-m", "QNLI", "news_aggregator", "customer_complaints")
    noise = random.Random(task)
    hardness = noise.uniform(0.5, 1.5)

    def made(method: Method | float, loss: float, seed: int, **given: Any) -> Entry:
        score = base - 0.02 * hardness * loss
        val, test = (score + noise.gauss(0, 0.004) for _ in "vt")
        return entry(task, method, val, test, seed=seed, max_rows=2500, is_sample=is_sample, **given)

    entries = []
    for seed in range(seeds):
        for strength in (1.0, 10.0, 100.0):
            if task in TEXT17:
                entries.append(made(strength, 1.2 + abs(math.log10(strength) - 1), seed))
        for lr in (3e-5, 1e-4, 3e-4):
            entries.append(made(FullFineTuning(), abs(math.log10(lr / 1e-4)), seed, lr=lr))
            entries += [made(TopLayers(n), 5 / n + abs(math.log10(lr / 1e-4)), seed, lr=lr) for n in (1, 3)]
        for lr in (3e-4, 1e-3, 3e-3):
            away = abs(math.log10(lr / 1e-3))
            entries.append(made(LayerNormOnly(), 3 + away, seed, lr=lr))
            for power in range(10):
                loss = 0.3 + 0.12 * abs(power - 6) + away
                more = {"measured": {"ablation": ablated(base)}} if task in ("CoLA", "MNLI-m") and power == 6 else {}
                entries.append(made(Houlsby(2**power), loss, seed, lr=lr, **more))
        if task in ("CoLA", "MNLI-m"):
            for power in (-7, -5, -4, -3, -1, 0):
                entries.append(made(Houlsby(64, init_std=10.0**power), max(0.3, 6 + 4 * power), seed))
            for lr in (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3):
                entries.append(made(Houlsby(64), 0.3 + abs(math.log10(lr / 5e-4)), seed, lr=lr))
                lost = lr > 4e-4 and seed == 1
                away = abs(math.log10(lr / 5e-5)) ** 2 * 5
                full = made(FullFineTuning(), away, seed, lr=lr)
                entries.append(
                    entry(task, FullFineTuning(), None, None, seed=seed, lr=lr, max_rows=2500) if lost else full
                )
            for method in (Houlsby(64, activation="tanh"), Parallel(64), LoRA(8), Houlsby(64, layers=3)):
                entries.append(made(method, 0.6, seed))
    return entries


GLUE_LIKE = {"CoLA": 0.42, "SST-2": 0.9, "MRPC": 0.88, "STS-B": 0.86, "QQP": 0.75, "MNLI-m": 0.71, "QNLI": 0.84}
GLUE_LIKE |= {"RTE": 0.62}


def ablated(full: float, metric: str = "accuracy") -> dict[str, Any]:
    """The more layers are gone, the worse; the upper ones cost more."""
    scores = [
        [full - sum(0.004 * (1 + k) ** 1.6 for k in range(a, b + 1)) / 2 if b >= a else None for b in range(LAYERS)]
        for a in range(LAYERS)
    ]
    return {"metric": metric, "full": full, "scores": scores}
