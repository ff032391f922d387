"""Answers in int8: their speed beside bf16, transformers and ONNX Runtime's int8, and what they cost in accuracy.

Speed: texts as short as SST-2's in batches of similar lengths, and texts of 256 tokens. Each contender is a process;
ONNX Runtime has the graphs of ``polytask export --to onnx --int8``: Houlsby, and merged LoRA, the bare encoder.
Quality: adapters trained on at most ``--train-rows`` rows of five real tasks, each scored in fp32, bf16, int8 and by
ONNX Runtime in int8; agreement is the share of the labels of fp32.

    python benchmarks/int8.py --threads 2
    python benchmarks/int8.py --threads 2 --data DIR   # quality; DIR has glue/ and text17/
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from contenders import Contender, interleaved, results_folder, versions, write_csv
from polytask.adapters.adapter import Adapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench.workload import TEXTS, as_work, sample_batches, synthetic
from polytask.data.task import Rows, Task
from polytask.evaluation.metrics import score
from polytask.inference.predict import MultiTask
from polytask.interchange.onnx import export_onnx, run_graph
from polytask.methods import Houlsby, LoRA, Method
from polytask.suites.glue import read_glue
from polytask.suites.text17 import read_text17
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from work import model_folder

LONG = 256
TASKS: dict[str, Callable[[str, Path], Task]] = {
    **dict.fromkeys(("SST-2", "MRPC", "QNLI"), lambda name, data: read_glue(name, data / "glue")),
    **dict.fromkeys(("20_newsgroups", "sms_spam"), lambda name, data: read_text17(name, data / "text17")),
}
PRECISIONS = ("float32", "bfloat16", "int8")
OURS = {"module": "peers.with_polytask", "method": "houlsby"}
ONNX = {"module": "peers.with_onnx", "dtype": "int8"}
FIELD: dict[str, dict[str, Any]] = {
    "polytask bfloat16, one": {**OURS, "dtype": "bfloat16", "route": "one"},
    "polytask bfloat16, mixed": {**OURS, "dtype": "bfloat16", "route": "mixed"},
    "polytask int8, bare": {**OURS, "dtype": "int8", "route": "bare"},
    "polytask int8, one": {**OURS, "dtype": "int8", "route": "one"},
    "polytask int8, mixed": {**OURS, "dtype": "int8", "route": "mixed"},
    "transformers bfloat16, bare": {"module": "peers.with_transformers", "dtype": "bfloat16", "precision": "bfloat16"},
    "onnxruntime int8, bare": {**ONNX, "graph": "lora"},
    "onnxruntime int8, one": {**ONNX, "graph": "houlsby"},
}
BASELINE = "onnxruntime int8, "


def speed(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One CSV row for each contender and kind of texts."""
    with tempfile.TemporaryDirectory() as scratch:
        graphs = exported(Path(scratch))
        for texts, rows_each in (("short", 4), ("long", 1)):
            size = args.tasks * rows_each
            count = 16 * size if texts == "short" else args.batches * size
            encoded = synthetic(TEXTS["sst2"].lengths(count) if texts == "short" else [LONG] * count)
            path = Path(scratch) / f"{texts}.json"
            work = sample_batches(as_work(encoded, 2, size), args.batches)
            path.write_text(json.dumps(work))
            shared = {"work": str(path), "work_kind": "answer", "order": "grouped", "rows_each": rows_each}
            yield from raced(texts, {**shared, "model": str(model_folder("minilm", Path(scratch)))}, graphs, args)


def raced(
    texts: str, shared: Mapping[str, Any], graphs: Mapping[str, Path], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """One CSV row for each contender on the same batches, in turns."""
    shared = {**shared, "num_tasks": args.tasks, "threads": args.threads, "device": "cpu"}
    contenders = []
    for name, entry in FIELD.items():
        own = {**entry, **({"graph": str(graphs[entry["graph"]])} if "graph" in entry else {})}
        contenders.append(Contender(name, Path(sys.executable), entry["module"], {**shared, **own}).wait())
    try:
        seconds = interleaved(contenders, range(args.batches), args.rounds)
    finally:
        for contender in contenders:
            contender.close()
    total = {name: sum(taken) for name, taken in seconds.items()}
    num_texts = args.batches * args.tasks * shared["rows_each"]
    for name, taken in total.items():
        route = name.rpartition(", ")[2]
        baseline = total[BASELINE + ("bare" if route == "bare" else "one")]
        yield {
            "texts": texts,
            "contender": name,
            "texts_per_s": round(num_texts / taken, 1),
            "over_onnxruntime_int8": round(baseline / taken, 2),
            "rounds": args.rounds,
            "versions": " ".join(f"{package}={number}" for package, number in versions().items()),
        }


def exported(folder: Path) -> dict[str, Path]:
    """Graphs in int8 of an adapter of each method, barely trained."""
    backbone = load_backbone("minilm", device="cpu", dtype="float32")
    rows = Rows(["a good film", "a bad film"] * 8, targets=[1, 0] * 8)
    task = Task("films", "classification", ("bad", "good"), "accuracy", rows, rows)
    methods: dict[str, Method] = {"houlsby": Houlsby(64), "lora": LoRA(rank=8)}
    graphs = {}
    for name, method in methods.items():
        adapter, _ = train(backbone, task, Recipe(method, epochs=1))
        graphs[name] = export_onnx(adapter, folder / f"{name}.onnx", backbone=backbone, int8=True, rows=rows).path
    return graphs


def quality(args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """The CSV rows of each task, one for each precision."""
    backbones = {dtype: load_backbone("minilm", device="cpu", dtype=dtype) for dtype in PRECISIONS}
    for name, read in TASKS.items():
        task = read(name, args.data)
        small = first(task.train, args.train_rows), first(task.validation, 200)
        own = Task(name, task.kind, task.labels, task.metric, *small)
        adapter, _ = train(backbones["bfloat16"], own, Recipe(Houlsby(64), epochs=args.epochs))
        assert task.test is not None
        yield list(scored(adapter, first(task.test, args.test_rows), backbones))


def first(rows: Rows, count: int) -> Rows:
    """The first rows, as many as there are."""
    return rows.take(range(min(count, len(rows))))


def scored(adapter: Adapter, rows: Rows, backbones: Mapping[str, Backbone]) -> Iterator[dict[str, Any]]:
    """One CSV row for each precision of an adapter."""
    texts = list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))
    header = adapter.header
    labels = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "store")
        store.put(adapter)
        for dtype, backbone in backbones.items():
            answers = MultiTask(backbone, store).predict(texts, header.task)
            labels[f"polytask {dtype}"] = [header.head.labels.index(answer.label) for answer in answers]
        graph = export_onnx(
            adapter, Path(scratch) / "int8.onnx", backbone=backbones["float32"], int8=True, rows=first(rows, 8)
        )
        tokenizer = Tokenizer.from_file(str(graph.tokenizer))
        scores = run_graph(str(graph.path), tokenizer, texts)
        labels["onnxruntime int8"] = [int(of.argmax()) for of in scores]
    right = labels["polytask float32"]
    for name, own in labels.items():
        metric = score(header.metric, header.head.kind, rows.targets or [], own, num_labels=len(header.head.labels))
        yield {
            "task": header.task,
            "rows": len(rows),
            "contender": name,
            "metric": header.metric,
            "score": round(100 * metric, 2),
            "agreement": round(100 * sum(a == b for a, b in zip(own, right)) / len(right), 2),
            "versions": " ".join(f"{package}={number}" for package, number in versions().items()),
        }


def main() -> None:
    """Measure and write ``int8.csv``, and with data ``int8-quality.csv`` instead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with glue/ and text17/: measure quality")
    parser.add_argument("--tasks", type=int, default=26)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--train-rows", type=int, default=2000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = results_folder(args.out, "cpu", args.threads)
    if args.data is None:
        write_csv(folder / "int8.csv", speed(args))
        return
    rows: list[dict[str, Any]] = []
    for of_task in quality(args):
        rows += of_task
        write_csv(folder / "int8-quality.csv", rows)


if __name__ == "__main__":
    main()
