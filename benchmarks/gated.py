"""Compares ModernBERT's fast layers with transformers' own: a Houlsby training step and a batch of answers.

Random weights of a shape (``--hidden``, ``--layers``), bf16, texts of unequal lengths; both take turns. With peft
installed (``benchmarks/peers``) transformers has its LoRA; without it, gradients go through all of its layers as they
would with adapters, and only the head is trained.

    python benchmarks/gated.py --threads 2
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, ModernBertConfig, ModernBertModel

from contenders import results_folder, write_csv
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench.interleave import alternated
from polytask.dropout import DropoutKey
from polytask.methods import Houlsby, LoRA, Method
from polytask.routing.route import Route

VOCABULARY = 30_522


def saved(folder: Path, hidden: int, layers: int, tokenizer: Any) -> Path:
    """A random ModernBERT of this shape."""
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden // 2,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        **special,
    )
    ModernBertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def batch_of(num_rows: int, longest: int) -> tuple[Tensor, Tensor]:
    """Texts whose lengths are spread evenly from an eighth of the longest."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(longest / 8, longest, num_rows).long()
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return torch.randint(5, VOCABULARY, mask.shape, generator=generator) * mask, mask


def ours(backbone: Backbone, method: Method, ids: Tensor, mask: Tensor) -> dict[str, Callable[[], None]]:
    """A step and answers of one adapter on a backbone."""
    live = LoadedAdapter(backbone, method, "classification", ("a", "b"), key=(0,))
    attached = Attached.of(backbone)
    attached.add("a", live.deltas)
    lengths = tuple(mask.sum(1).tolist())
    route, draw = Route.of(["a"] * len(ids)), DropoutKey(slice(0, len(ids)), ("bench",), lengths)

    def step() -> None:
        backbone.model.train()
        with attached.routed(route), backbone.dropout_source.keyed((draw,)):
            live.head(backbone.encoder(ids, mask, None)[1]).square().sum().backward()

    def answer() -> None:
        backbone.model.eval()
        with torch.inference_mode(), attached.routed(route):
            live.head(backbone.encoder(ids, mask, None)[1])

    return {"train": step, "answer": answer}


def theirs(folder: Path, ids: Tensor, mask: Tensor) -> dict[str, Callable[[], None]]:
    """Transformers' classifier with peft's LoRA where it is installed, else with its head alone trained."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
    if importlib.util.find_spec("peft") is not None:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=8, target_modules=["Wqkv"], modules_to_save=["classifier"]))
    else:
        model.base_model.requires_grad_(False)
        model.enable_input_require_grads()

    def step() -> None:
        model.train()
        model(input_ids=ids, attention_mask=mask).logits.square().sum().backward()

    def answer() -> None:
        model.eval()
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask)

    return {"train": step, "answer": answer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--longest", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokenizer", default="minilm", help="A backbone whose tokenizer is saved beside the weights.")
    parser.add_argument("--out", type=Path, help="The folder of results; nothing is written without it.")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tokenizer = load_backbone(given.tokenizer, device="cpu", dtype="float32").tokenizer
    ids, mask = batch_of(given.rows, given.longest)
    with tempfile.TemporaryDirectory() as name:
        folder = saved(Path(name), given.hidden, given.layers, tokenizer)
        backbone = load_backbone(folder, device="cpu", dtype="bfloat16")
        ways = {
            "houlsby": ours(backbone, Houlsby(size=64), ids, mask),
            "lora": ours(load_backbone(folder, device="cpu", dtype="bfloat16"), LoRA(rank=8), ids, mask),
            "transformers": theirs(folder, ids, mask),
        }
        rows = [row for what in ("train", "answer") for row in timed(what, ways, given.rounds)]
    if given.out is not None:
        write_csv(results_folder(given.out, "cpu", given.threads) / "gated.csv", rows)


def timed(what: str, ways: dict[str, dict[str, Callable[[], None]]], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of both, in turns, and their ratio."""
    taken = alternated({name: way[what] for name, way in ways.items()}, rounds)
    for name, seconds in taken.items():
        print(f"{what:7} {name:13} {seconds * 1e3:8.1f} ms  x{taken['transformers'] / seconds:.2f}")
    return [{"what": what, "way": name, "ms": round(seconds * 1e3, 2)} for name, seconds in taken.items()]


if __name__ == "__main__":
    main()
