"""A training run that is killed again and again: ``python -m tests.killed FOLDER SEED`` prints its tensor digest.

The process imports everything once and forks a child for each life, so that hundreds of kills take seconds.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.methods import Houlsby
from polytask.training.checkpoint import Checkpoint
from polytask.training.loop import train
from polytask.training.recipe import Recipe

RECIPE = Recipe(Houlsby(8), lr=1e-2, epochs=12, batch_size=8)


def task() -> Task:
    texts = ["good film", "a great plot", "the actor was great", "bad film", "an awful plot", "it is bad"] * 8
    rows = Rows(texts, targets=[1, 1, 1, 0, 0, 0] * 8)
    return Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows.take(range(6)))


def live(folder: Path, checkpoint: Path | None) -> str:
    """One life: train, or go on training, to the end."""
    backbone = load_backbone(folder / "backbone", device="cpu", dtype="float32", pooling="mean")
    kept = None if checkpoint is None else Checkpoint(checkpoint, every_s=0.0)
    adapter, _ = train(backbone, task(), RECIPE, checkpoint=kept, resume=True)
    return adapter.tensor_digest


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    generator, kills = random.Random(seed), 0
    checkpoint = folder / f"run-{seed}.ckpt"
    while True:
        child = os.fork()
        if child == 0:
            (folder / f"digest-{seed}").write_text(live(folder, checkpoint))
            os._exit(0)
        # Lives get longer, so that on a slow machine, too, some get somewhere before they are killed.
        patience = time.monotonic() + generator.uniform(0.02, 0.2) * (1 + kills / 4)
        while time.monotonic() < patience and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        if (folder / f"digest-{seed}").exists():
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        if kills > 20:
            (folder / f"digest-{seed}").write_text(live(folder, checkpoint))
            break
    print(kills, (folder / f"digest-{seed}").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
