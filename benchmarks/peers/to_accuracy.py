"""A whole training of a peer as its documentation has it; prints the validation accuracy after each epoch and the time.

``adapters``: its training notebook (lr 1e-4, 6 epochs, batches of 32, linear decay). ``peft``: its example of LoRA for
sequence classification (lr 3e-4, 20 epochs, batches of 32, 6% warm-up). ``setting`` is ``default`` (fp32, batches as
they come) or ``best`` (bf16 autocast, rows of similar lengths together).

    python -m peers.to_accuracy '{"library": "peft", "setting": "best", "model": …, "work": …, "seed": 0, "threads": 2}'
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polytask.bench.peers import classifier, with_adapters, with_peft
from polytask.bench.reference_loop import Work, inputs_of, precision

RECIPES = {"adapters": {"lr": 1e-4, "epochs": 6, "warmup": 0.0}, "peft": {"lr": 3e-4, "epochs": 20, "warmup": 0.06}}
BATCH, CHUNK = 32, 32 * 50


def model_of(library: str, source: str, num_labels: int) -> nn.Module:
    """The model as the library makes it."""
    if library == "peft":
        model: nn.Module = with_peft(classifier(source, num_labels))
        return model
    model = with_adapters(source, num_labels)
    model.train_adapter("t0")
    return model


def batches_of(work: Work, seed: int, *, grouped: bool) -> list[list[int]]:
    """The rows in a random order; those of similar lengths together within 50 batches if ``grouped``."""
    generator, rows = random.Random(seed), list(range(len(work["ids"])))
    generator.shuffle(rows)
    if grouped:
        chunks = [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]
        rows = [row for chunk in chunks for row in sorted(chunk, key=lambda row: -len(work["ids"][row]))]
    batches = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
    if grouped:
        generator.shuffle(batches)
    return batches


@torch.inference_mode()
def accuracy(model: nn.Module, work: Work, kind: str) -> float:
    """The share of rows that are answered rightly; rows of similar lengths together."""
    model.eval()
    order, right = sorted(range(len(work["ids"])), key=lambda row: len(work["ids"][row])), 0
    for at in range(0, len(order), 64):
        rows = order[at : at + 64]
        with precision(kind, "cpu"):
            found = model(**inputs_of(work, rows, "cpu")).logits.argmax(-1).tolist()
        right += sum(label == work["targets"][row] for label, row in zip(found, rows))
    model.train()
    return right / len(order)


def train(settings: dict[str, Any]) -> list[tuple[float, float]]:
    """Seconds since the start, evaluation included, and validation accuracy, after each epoch."""
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    work: dict[str, Work] = json.loads(Path(settings["work"]).read_text())
    recipe, is_best = RECIPES[settings["library"]], settings["setting"] == "best"
    kind = "autocast" if is_best else "float32"
    model = model_of(settings["library"], settings["model"], work["train"]["num_labels"]).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe["lr"], weight_decay=0.0, fused=True)
    num_steps = int(recipe["epochs"]) * -(-len(work["train"]["ids"]) // BATCH)
    warm = max(1, round(recipe["warmup"] * num_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (num_steps - step) / max(1, num_steps - warm))
    )
    curve, start = [], time.perf_counter()
    for epoch in range(int(recipe["epochs"])):
        for rows in batches_of(work["train"], 1000 * settings["seed"] + epoch, grouped=is_best):
            targets = torch.tensor([work["train"]["targets"][row] for row in rows])
            with precision(kind, "cpu"):
                logits = model(**inputs_of(work["train"], rows, "cpu")).logits
            nn.functional.cross_entropy(logits.float(), targets).backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        score = accuracy(model, work["validation"], kind)
        curve.append((time.perf_counter() - start, score))
    return curve


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
