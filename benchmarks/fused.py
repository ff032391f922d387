"""Compares eight jobs in one step with the same eight one after another, with short and with long texts.

python benchmarks/fused.py --threads 2
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from contenders import results_folder, write_csv
from polytask.adapters.attach import Attached
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench.interleave import alternated
from polytask.bench.workload import synthetic
from polytask.memory import keep_freed_memory as kept_memory
from polytask.methods import Houlsby
from polytask.training.loop import split_groups, step
from work import PreparedJob, attached_with, model_folder, write_work


def stepped(backbone: Backbone, attached: Attached, groups: list[list[PreparedJob]], num_batches: int) -> None:
    """Run every batch once; the jobs of a group share forward passes as the training loop does."""
    for batch in range(num_batches):
        for group in groups:
            for job in group:
                job.batch = batch
            for pack in split_groups([group], backbone.device):  # type: ignore[list-item]
                step(backbone, attached, pack)


def measured(
    backbone: Backbone, num_tokens: int, batch_size: int, args: argparse.Namespace, scratch: Path
) -> dict[str, Any]:
    """One CSV row: texts of ``num_tokens``, ``batch_size`` of them a job and step."""
    lengths = [num_tokens] * (batch_size * args.batches)
    work = write_work(scratch / "work.json", synthetic(lengths), 2, batch_size)
    jobs = [PreparedJob(backbone, work, Houlsby(64), name=f"job{job}") for job in range(args.jobs)]
    attached = attached_with(backbone, jobs)
    together: Callable[[], object] = partial(stepped, backbone, attached, [jobs], args.batches)
    in_turn: Callable[[], object] = partial(stepped, backbone, attached, [[job] for job in jobs], args.batches)
    seconds = alternated({"fused": together, "one after another": in_turn}, args.rounds)
    for job in jobs:
        attached.remove(job.name)
    return {
        "model": args.model,
        "method": "houlsby",
        "jobs": args.jobs,
        "batch_size": batch_size,
        "tokens_a_text": num_tokens,
        **{
            f"{name.replace(' ', '_')}_ms_a_step": round(1e3 * taken / args.batches, 1)
            for name, taken in seconds.items()
        },
        "speedup": round(seconds["one after another"] / seconds["fused"], 2),
        "dtype": str(backbone.dtype).removeprefix("torch."),
    }


def main() -> None:
    """Measure and write ``fused.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--tokens", type=lambda counts: [int(n) for n in counts.split(",")], default=[16, 128])
    parser.add_argument("--batch-sizes", type=lambda counts: [int(n) for n in counts.split(",")], default=[8, 32])
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder, kept_memory():
        scratch = Path(folder)
        backbone = load_backbone(model_folder(args.model, scratch), device=args.device)
        rows = [
            measured(backbone, num_tokens, batch_size, args, scratch)
            for num_tokens in args.tokens
            for batch_size in args.batch_sizes
        ]
    write_csv(results_folder(args.out, args.device, args.threads) / "fused.csv", rows)


if __name__ == "__main__":
    main()
