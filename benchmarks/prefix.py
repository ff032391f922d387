"""Measures adapters in the top third of the layers with the frozen prefix cached, in an epoch after the first.

The comparisons are the same training without the cache, and adapters in all layers.

python benchmarks/prefix.py --threads 2
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from contenders import alternated, results_folder, write_csv
from polytask.adapters.attach import Attached
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.methods import Houlsby
from polytask.training.loop import step
from work import TEXTS, PreparedJob, attached_with, model_folder, num_tokens, rows_of, write_work


def epoch(backbone: Backbone, attached: Attached, job: PreparedJob, *, forgets: bool = False) -> None:
    """Run every batch once; with ``forgets`` the cache is empty, as in a first epoch."""
    if forgets:
        backbone.prefixes.clear()
    for batch in range(len(job.batches)):
        job.batch = batch
        step(backbone, attached, [job])


def measured(backbone: Backbone, texts: str, model: Path, scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One CSV row: texts of these lengths."""
    encoded = rows_of(TEXTS[texts], args.rows, args.data, model)
    work = write_work(scratch / "work.json", encoded, TEXTS[texts].num_labels, args.batch_size)
    top = backbone.num_layers // 3
    methods = {"kept": Houlsby(64, layers=top), "uncached": Houlsby(64, layers=top), "all_layers": Houlsby(64)}
    jobs = {name: PreparedJob(backbone, work, method, name=name) for name, method in methods.items()}
    for name, job in jobs.items():
        job.recipe = replace(job.recipe, keep_prefix=name == "kept")
    attached = attached_with(backbone, list(jobs.values()))
    runs = {"first_epoch": partial(epoch, backbone, attached, jobs["kept"], forgets=True)}
    runs |= {name: partial(epoch, backbone, attached, job) for name, job in jobs.items()}
    seconds = alternated(runs, args.rounds)
    for name in jobs:
        attached.remove(name)
    tokens, _ = num_tokens(work, "grouped")
    return {
        "model": args.model,
        "method": "houlsby",
        "texts": texts,
        "layers": f"{top} of {backbone.num_layers}",
        "batch_size": args.batch_size,
        "tokens_a_text": round(tokens / args.rows, 1),
        **{f"{name}_tokens_a_s": round(tokens / taken) for name, taken in seconds.items()},
        "kept_to_uncached": round(seconds["uncached"] / seconds["kept"], 2),
        "kept_to_all_layers": round(seconds["all_layers"] / seconds["kept"], 2),
        "first_epoch_to_uncached": round(seconds["uncached"] / seconds["first_epoch"], 2),
        "cache_mb": round(backbone.prefixes.used_bytes / 1e6, 1),
        "dtype": str(backbone.dtype).removeprefix("torch."),
    }


def main() -> None:
    """Measure and write ``prefix.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts", type=lambda names: names.split(","), default=list(TEXTS))
    parser.add_argument(
        "--data", type=Path, help="the folder of real texts; without it synthetic ones of equal lengths"
    )
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = model_folder(args.model, scratch)
        backbone = load_backbone(model, device=args.device)
        rows = [measured(backbone, texts, model, scratch, args) for texts in args.texts]
    write_csv(results_folder(args.out, args.device, args.threads) / "prefix.csv", rows)


if __name__ == "__main__":
    main()
