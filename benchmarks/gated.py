"""Compares fast layers with transformers' own and with transformers + peft: a training step and a batch of answers.

Random weights of a shape (``--hidden``, ``--layers``) for each architecture, bf16, texts of unequal lengths; all take
turns. ``transformers`` trains its head with gradients through all layers, as adapters would need; ``peft`` is its LoRA
on the same linears. Without peft that column is left out. Each architecture has a process of its own, which answers
before it trains (unless ``--train-first``): after a training step, glibc keeps so much freed memory that transformers,
whose batches need more of it, answers faster. ``--clock cpu`` counts the processor time of all threads instead of
seconds, for a machine that is in use.

    pip install --no-deps --target PEERS peft accelerate
    PYTHONPATH=PEERS python benchmarks/gated.py --threads 2
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForSequenceClassification

from contenders import beside_others, results_folder, write_csv
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.checkpoint import quiet_transformers
from polytask.backbones.loading import load_backbone
from polytask.bench.interleave import alternated
from polytask.dropout import DropoutKey
from polytask.methods import Houlsby, LoRA, Method
from polytask.routing.route import Route

VOCABULARY = 30_522
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Way = dict[str, Callable[[], None]]
"""A training step (``train``) and a batch of answers (``answer``)."""


@dataclass(frozen=True)
class Shape:
    """How an architecture names its sizes, and the linears that LoRA adapts.

    Attributes:
        targets: their names in transformers.
        linears: their sites.
        names: the configuration fields of hidden size, layers, heads and feed-forward width.
        middle: the feed-forward width over the hidden size.
        settings: further fields.
    """

    targets: tuple[str, ...]
    linears: tuple[str, ...] = ("query", "value")
    names: tuple[str, ...] = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    middle: float = 4
    settings: dict[str, int] = field(default_factory=dict)


_SPECIAL = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
SHAPES = {
    "modernbert": Shape(("Wqkv",), ("query", "key", "value"), middle=1.5, settings=_SPECIAL),
    "mpnet": Shape(("attn.q", "attn.v"), settings={"max_position_embeddings": 514}),
    "distilbert": Shape(("q_lin", "v_lin"), names=("dim", "n_layers", "n_heads", "hidden_dim")),
}


def saved(folder: Path, architecture: str, hidden: int, layers: int, tokenizer: Any) -> Path:
    """A random model of this shape."""
    shape = SHAPES[architecture]
    sizes = dict(zip(shape.names, (hidden, layers, hidden // 64, int(shape.middle * hidden)), strict=True))
    config = CONFIG_MAPPING[architecture](vocab_size=VOCABULARY, **sizes, **shape.settings)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def batch_of(num_rows: int, longest: int) -> tuple[Tensor, Tensor]:
    """Texts whose lengths are spread evenly from an eighth of the longest."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(longest / 8, longest, num_rows).long()
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return torch.randint(5, VOCABULARY, mask.shape, generator=generator) * mask, mask


def ours(backbone: Backbone, method: Method, ids: Tensor, mask: Tensor) -> Way:
    """A step and answers of one adapter on a backbone."""
    method = method.fitted(backbone.row.is_pre_norm)
    attached = Attached.of(backbone)
    trained, stored = (LoadedAdapter(backbone, method, "classification", ("a", "b"), key=(0,)) for _ in range(2))
    stored.frozen(backbone.dtype)  # as an adapter that is read from a file
    for name, live in (("trained", trained), ("stored", stored)):
        attached.add(name, live.deltas)
    lengths = tuple(mask.sum(1).tolist())
    draw = DropoutKey(slice(0, len(ids)), ("bench",), lengths)

    def step() -> None:
        backbone.model.train()
        with attached.routed(Route.of(["trained"] * len(ids))), backbone.dropout_source.keyed((draw,)):
            trained.head(backbone.encoder(ids, mask, None)[1]).square().sum().backward()

    def answer() -> None:
        backbone.model.eval()
        with torch.inference_mode(), attached.routed(Route.of(["stored"] * len(ids))):
            stored.head(backbone.encoder(ids, mask, None)[1])

    return {"train": step, "answer": answer}


def theirs(folder: Path, targets: tuple[str, ...] | None, ids: Tensor, mask: Tensor) -> Way:
    """Transformers' classifier with peft's LoRA on ``targets``, or without it and with its head alone trained."""
    with quiet_transformers():
        model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
    if targets is None:
        model.base_model.requires_grad_(False)
        model.enable_input_require_grads()
    else:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=8, target_modules=list(targets), modules_to_save=["classifier"]))

    def step() -> None:
        model.train()
        model(input_ids=ids, attention_mask=mask).logits.square().sum().backward()

    def answer() -> None:
        model.eval()
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask)

    return {"train": step, "answer": answer}


def compared(architecture: str, args: argparse.Namespace, tokenizer: Any) -> list[dict[str, Any]]:
    """The CSV rows of an architecture."""
    shape, (ids, mask) = SHAPES[architecture], batch_of(args.rows, args.longest)

    def backbone() -> Backbone:
        return load_backbone(folder, device="cpu", dtype="bfloat16")

    with tempfile.TemporaryDirectory() as name:
        folder = saved(Path(name), architecture, args.hidden, args.layers, tokenizer)
        ways = {
            "houlsby": ours(backbone(), Houlsby(size=64), ids, mask),
            "lora": ours(backbone(), LoRA(rank=8, linears=shape.linears), ids, mask),
            "transformers": theirs(folder, None, ids, mask),
        }
        if importlib.util.find_spec("peft") is not None:
            ways["peft"] = theirs(folder, shape.targets, ids, mask)
        whats = ("train", "answer") if args.train_first else ("answer", "train")
        return [row for what in whats for row in timed(architecture, what, ways, args)]


def timed(architecture: str, what: str, ways: dict[str, Way], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds of each, in turns, and how many times as long transformers and peft take."""
    taken = alternated({name: way[what] for name, way in ways.items()}, args.rounds, CLOCKS[args.clock])
    rows = []
    for name, seconds in taken.items():
        over = {
            f"{peer}_over_it": round(taken[peer] / seconds, 2) for peer in ("transformers", "peft") if peer in taken
        }
        rows.append({"architecture": architecture, "what": what, "way": name, "ms": round(seconds * 1e3, 2), **over})
        print("  ".join(f"{value:>12}" for value in rows[-1].values()), file=sys.stderr, flush=True)
    return rows


def from_own_process(architecture: str) -> list[dict[str, Any]]:
    """The CSV rows of an architecture, measured by this script in a new process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--architectures", architecture, "--here"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows: list[dict[str, Any]] = json.loads(out.splitlines()[-1])
    return rows


def main() -> None:
    """Compare each architecture, and write ``gated.csv``, or ``gated-cpu.csv`` of processor time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", default=",".join(SHAPES), help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--longest", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--train-first", action="store_true", help="measure answers last, when the process keeps the memory of training"
    )
    parser.add_argument("--tokenizer", default="minilm", help="a backbone whose tokenizer is saved beside the weights")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--here", action="store_true", help="measure one architecture in this process")
    parser.add_argument("--out", type=Path, help="the folder of results; without it nothing is written")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.here:
        tokenizer = load_backbone(args.tokenizer, device="cpu", dtype="float32").tokenizer
        print(json.dumps(compared(args.architectures, args, tokenizer)))
        return
    rows = [row for architecture in args.architectures.split(",") for row in from_own_process(architecture)]
    if args.out is not None:
        name = "gated.csv" if args.clock == "wall" else "gated-cpu.csv"
        path = results_folder(args.out, "cpu", args.threads) / name
        write_csv(path, beside_others(path, rows, ("architecture", "what", "way")))


if __name__ == "__main__":
    main()
