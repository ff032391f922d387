"""Measures the speed of a training step: ours, adapters, peft and full fine-tuning, on the same weights and batches.

Each peer runs at its default (fp32, batches as they come, padded to the longest row) and at its best (bf16 autocast,
rows grouped by length, whichever attention is faster). Dropout is 0.1 everywhere. Our LayerNorms train and those of
adapters do not: ``polytask, norms frozen`` is ours without them.

    benchmarks/peers/setup.sh
    python benchmarks/train_speed.py --threads 2 [--data DIR] [--quick]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from contenders import Contender, environments, interleaved, results_folder, write_csv
from polytask.bench.reference_loop import Work
from work import MODELS, TEXTS, model_folder, num_tokens, rows_of, write_work

OURS = {"library": "polytask", "module": "peers.with_polytask", "order": "grouped", "precision": "auto"}
ADAPTERS = {"library": "adapters", "module": "peers.with_adapters"}
PEFT = {"library": "peft", "module": "peers.with_peft"}
DEFAULT = {"setting": "default", "order": "shuffled", "precision": "float32"}
BEST = tuple(
    {"setting": f"autocast, {attention}", "order": "grouped", "precision": "autocast", "attention": attention}
    for attention in ("eager", "sdpa")
)
HELD = {"setting": "held in bf16, sdpa", "order": "grouped", "precision": "bfloat16", "attention": "sdpa"}

FIELD: dict[str, list[dict[str, Any]]] = {
    "houlsby": [
        {**OURS, "setting": "default", "method": "houlsby"},
        {**OURS, "setting": "norms frozen", "method": "houlsby-norms-frozen"},
        *({**ADAPTERS, **setting, "method": "houlsby"} for setting in (DEFAULT, *BEST)),
    ],
    "full": [
        {**OURS, "setting": "default", "method": "full"},
        *({**PEFT, **setting, "library": "transformers", "method": "full"} for setting in (DEFAULT, *BEST)),
    ],
    "lora": [
        {**OURS, "setting": "default", "method": "lora"},
        *({**PEFT, **setting, "method": "lora"} for setting in (DEFAULT, *BEST, HELD)),
    ],
}
"""Who trains what. Full fine-tuning of a peer is plain transformers, in the environment of peft."""


def entered(entries: Sequence[dict[str, Any]], pythons: Mapping[str, Path], shared: dict[str, Any]) -> list[Contender]:
    """The processes of these entries, loading."""
    contenders = []
    for entry in entries:
        name = f"{entry['library']} {entry['method']}, {entry['setting']}"
        python = pythons["peft" if entry["module"] == PEFT["module"] else entry["library"]]
        contenders.append(Contender(name, python, entry["module"], {**shared, **entry, "work_kind": "train"}).wait())
    return contenders


def measured(model: str, texts: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One CSV row per contender, for one model and one kind of text."""
    pythons = environments(args.peers)
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(model, Path(scratch))
        encoded = rows_of(TEXTS[texts], args.batches * args.batch_size, args.data, folder)
        path = Path(scratch) / "work.json"
        work = write_work(path, encoded, TEXTS[texts].num_labels, args.batch_size)
        shared = {"model": str(folder), "work": str(path), "threads": args.threads, "device": args.device}
        contenders = [one for field in args.methods for one in entered(FIELD[field], pythons, shared)]
        try:
            seconds = interleaved(contenders, range(args.batches), args.rounds)
        finally:
            for contender in contenders:
                contender.close()
    return [{"model": model, "texts": texts, **row} for row in compared(contenders, seconds, work)]


def compared(contenders: list[Contender], seconds: Mapping[str, list[float]], work: Work) -> Iterator[dict[str, Any]]:
    """Rates of all contenders, and ours over each: with the same method, and Houlsby both ways whatever it trains."""
    rates, tokens = {}, {}
    for contender in contenders:
        tokens[contender.name] = num_tokens(work, contender.settings["order"])
        rates[contender.name] = tokens[contender.name][0] / sum(seconds[contender.name])
    ours = {one.settings["method"]: rates[one.name] for one in contenders if one.settings["library"] == "polytask"}
    both = {"houlsby": "houlsby", "norms_frozen": "houlsby-norms-frozen"} if "houlsby" in ours else {}
    for contender in contenders:
        settings, name = contender.settings, contender.name
        yield {
            "method": settings["method"],
            "library": settings["library"],
            "setting": settings["setting"],
            "precision": contender.facts.get("dtype", settings["precision"]),
            "trained": contender.facts["trained"],
            "tokens_per_s": round(rates[name]),
            "padded_tokens_per_s": round(tokens[name][1] / sum(seconds[name])),
            "ms_a_step": round(1e3 * sum(seconds[name]) / len(seconds[name]), 1),
            "tokens_a_batch": round(tokens[name][0] / len(seconds[name])),
            "padded_tokens_a_batch": round(tokens[name][1] / len(seconds[name])),
            "ours_over_this": round(ours[settings["method"]] / rates[name], 2),
            **{f"our_{column}_over_this": round(ours[method] / rates[name], 2) for column, method in both.items()},
            "versions": " ".join(f"{package}={number}" for package, number in contender.facts["versions"].items()),
        }


def main() -> None:
    """Measure and write ``train.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda names: names.split(","), default=list(MODELS))
    parser.add_argument("--texts", type=lambda names: names.split(","), default=list(TEXTS))
    parser.add_argument("--methods", type=lambda names: names.split(","), default=list(FIELD))
    parser.add_argument(
        "--data", type=Path, help="the folder with glue/ and text17/; else synthetic rows of like lengths"
    )
    parser.add_argument("--batches", type=int, default=16, help="the more, the better rows can be grouped by length")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="MiniLM, eight batches, two rounds")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    if args.quick:
        args.models, args.batches, args.rounds = ["minilm"], 8, 2
    rows = [row for model in args.models for texts in args.texts for row in measured(model, texts, args)]
    write_csv(results_folder(args.out, args.device, args.threads) / "train.csv", rows)


if __name__ == "__main__":
    main()
