"""Measures the peak memory of one training step at the sizes of BERT, with random weights.

Each method runs in a fresh process: batches of 32 texts of 128 tokens, as in the paper, with the optimizer. The peak is
what the system counted for the process (``VmHWM``), libraries and weights included. Full fine-tuning holds a copy of
the backbone, its gradients and two moments. ``attached`` and ``checkpointed`` are a loop of one's own over
transformers' model with ``pt.attach``, without and with gradient checkpointing; Polytask's own training uses none.

    python benchmarks/bert_memory.py --shapes base,large --threads 2
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

import polytask as pt
from contenders import beside_others, memory, results_folder, write_csv
from polytask.backbones.checkpoint import checkpoint_source
from polytask.data.task import Rows, Task
from polytask.memory import free_bytes
from polytask.methods import FullFineTuning, Houlsby, LoRA, Method
from polytask.training.events import Event, Step
from polytask.training.loop import train
from polytask.training.recipe import Recipe

SHAPES = {"base": (12, 768), "large": (24, 1024)}
METHODS: dict[str, Method] = {"houlsby-64": Houlsby(64), "lora-8": LoRA(rank=8), "full": FullFineTuning()}
OWN_LOOPS = {"attached": False, "checkpointed": True}
"""Whether a loop of one's own uses gradient checkpointing."""
GIB = 1 << 30


def saved(folder: Path, shape: str, tokenizer: str) -> Path:
    """A random BERT of this shape, in bf16."""
    layers, hidden = SHAPES[shape]
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 4 * hidden}
    torch.manual_seed(0)
    model = BertModel(BertConfig(num_attention_heads=hidden // 64, **sizes), add_pooling_layer=False)
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint_source(tokenizer)).save_pretrained(folder)
    return folder


class EnoughSteps(Exception):
    """Ends a training run; not an error."""


def peak_of_steps(folder: Path, label: str, args: argparse.Namespace) -> dict[str, Any]:
    """The peak memory of this process over ``--steps`` steps, and the seconds of the last one."""
    loaded, ends = (own_loop if label in OWN_LOOPS else training)(folder, label, args)
    return {
        "loaded_gib": round(loaded / GIB, 2),
        "peak_gib": round(memory()["peak_bytes"] / GIB, 2),
        "step_s": round(ends[-1] - ends[-2], 1),
    }


def own_loop(folder: Path, label: str, args: argparse.Namespace) -> tuple[int, list[float]]:
    """Bytes after loading and the end of each step, of transformers' model with adapters and torch's AdamW."""
    dtype = getattr(torch, args.dtype)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=dtype).train()
    if OWN_LOOPS[label]:
        model.gradient_checkpointing_enable()
    pt.attach(model, METHODS["houlsby-64"])
    optimizer = torch.optim.AdamW(parameter for parameter in model.parameters() if parameter.requires_grad)
    ids, labels = torch.full((args.rows, args.length), 5), torch.arange(args.rows) % 2
    loaded, ends = memory()["now_bytes"], [time.perf_counter()]
    for _ in range(args.steps):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return loaded, ends


def training(folder: Path, label: str, args: argparse.Namespace) -> tuple[int, list[float]]:
    """Bytes after loading and the end of each step, of Polytask's training."""
    backbone = pt.load_backbone(folder, device="cpu", dtype=args.dtype)
    texts = ["word " * (args.length - 2)] * args.rows
    rows = Rows(texts * args.steps, targets=[row % 2 for row in range(args.rows * args.steps)])
    task = Task("steps", "classification", ("no", "yes"), "accuracy", rows, rows.take(range(2)))
    recipe = Recipe(METHODS[label], epochs=1, batch_size=args.rows, max_length=args.length)
    loaded, ends = memory()["now_bytes"], [time.perf_counter()]

    def after(event: Event) -> None:
        if isinstance(event, Step):
            ends.append(time.perf_counter())
        if len(ends) > args.steps:
            raise EnoughSteps

    with contextlib.suppress(EnoughSteps):
        train(backbone, task, recipe, progress=after)
    return loaded, ends


def measured(shape: str, label: str, args: argparse.Namespace) -> dict[str, Any]:
    """One CSV row, from a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = saved(Path(name), shape, args.tokenizer)
        sizes = [f"--{name}={getattr(args, name)}" for name in ("rows", "length", "steps", "threads", "dtype")]
        command = [sys.executable, __file__, "--folder", str(folder), "--methods", label, *sizes]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {
        "shape": shape,
        "method": label,
        "dtype": args.dtype,
        "rows": args.rows,
        **json.loads(answer.splitlines()[-1]),
    }


def main() -> None:
    """Measure each shape and method, and write ``bert_memory.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="base,large", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of {', '.join((*METHODS, *OWN_LOOPS))}")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128, help="tokens of each text")
    parser.add_argument("--steps", type=int, default=2, help="optimizers hold their moments from the second one on")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--needs-gib", type=float, default=14.0, help="free memory without which nothing is run")
    parser.add_argument("--tokenizer", default="minilm", help="a backbone whose tokenizer is saved beside the weights")
    parser.add_argument("--folder", type=Path, help="measure the backbone in this folder in this process")
    parser.add_argument("--out", type=Path, help="the folder of results; without it nothing is written")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.folder is not None:
        print(json.dumps(peak_of_steps(args.folder, args.methods, args)))
        return
    rows = []
    for shape in args.shapes.split(","):
        for label in args.methods.split(","):
            free = free_bytes(torch.device("cpu")) / GIB
            if free < args.needs_gib:
                raise SystemExit(f"{free:.1f} GiB are free, {args.needs_gib:g} are needed: --needs-gib")
            rows.append(measured(shape, label, args))
            print(rows[-1], file=sys.stderr, flush=True)
    if args.out is not None:
        path = results_folder(args.out, "cpu", args.threads) / "bert_memory.csv"
        write_csv(path, beside_others(path, rows, ("shape", "method", "dtype", "rows")))


if __name__ == "__main__":
    main()
