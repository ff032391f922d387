"""Profiles a training step with torch and prints the most expensive operations first.

python benchmarks/profile_step.py --tokens 64 --method houlsby
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from peers.with_polytask import METHODS, training
from polytask.backbones.loading import load_backbone
from polytask.bench.interleave import alternated
from polytask.bench.workload import synthetic
from work import PreparedJob, model_folder, write_work


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--method", choices=METHODS, default="houlsby")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rows", type=int, default=25, help="lines of the table")
    parser.add_argument("--shapes", action="store_true", help="operations of different shapes apart")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        backbone = load_backbone(model_folder(args.model, Path(scratch)), device=args.device, dtype=args.dtype)
        work = write_work(Path(scratch) / "work.json", synthetic([args.tokens] * args.batch_size), 2, args.batch_size)
    run = training(backbone, PreparedJob(backbone, work, METHODS[args.method]))
    seconds = alternated({"step": lambda: run(0)}, args.steps)["step"]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if backbone.device.type == "cuda" else [])]
    with profile(activities=activities, record_shapes=args.shapes) as profiled:
        for _ in range(args.steps):
            run(0)
    by = "self_cuda_time_total" if backbone.device.type == "cuda" else "self_cpu_time_total"
    averages = profiled.key_averages(group_by_input_shape=args.shapes)
    print(averages.table(sort_by=by, row_limit=args.rows, max_name_column_width=60))
    tokens = args.tokens * args.batch_size
    print(f"{1e3 * seconds:.1f} ms a step without the profiler, {tokens / seconds:,.0f} tokens/s, {backbone.dtype}")


if __name__ == "__main__":
    main()
