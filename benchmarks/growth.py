"""Measures how time and memory grow: adapters loaded, versions in a store, rows answered, read and written, backbones.

Each line is a fresh process, so that no part finds the memory of another. Times are processor time, so that a busy
machine changes them little; ``seconds`` alone is what a clock showed. ``an_item_us`` is the time of one item: if cost
is linear, it is the same in all lines of a part. ``exponent`` is the slope of log(time) over log(size) from the line
before: 0 is flat, 1 is linear. The size is the count; of backbones the parameters of their layers.

Lines that ``growth.csv`` has already are not measured again, so a run can be continued; delete a line to repeat it.

    python benchmarks/growth.py --threads 1 [--only loaded,store,answered,read,backbones] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from contenders import memory, results_folder, write_csv

Row = dict[str, str]
MIB = 1 << 20
COLUMNS = ("seconds", "processor_s", "memory_mib")
TEXTS = ("a tender, quietly funny film", "shares fell after the bank cut its forecast for the year")


def seconds_of(run: Callable[[], object], repeats: int = 1) -> float:
    """The median processor seconds of a call."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return median(taken)


def measured(run: Callable[[], object]) -> dict[str, float]:
    """What the clock and the processor took for the main work of a line."""
    start = time.perf_counter()
    processor = seconds_of(run)
    return {"seconds": time.perf_counter() - start, "processor_s": processor}


def of_loaded(scratch: Path, count: int, size: int = 64) -> dict[str, Any]:
    """``count`` Houlsby adapters loaded on MiniLM; then a batch of 26 texts of as many of them."""
    import polytask as pt
    from polytask.methods import Houlsby

    backbone, store = pt.load_backbone("minilm", device="cpu"), pt.Store(scratch / "store")
    names = [f"task{number}" for number in range(count)]
    for name in names:
        store.put(untrained(backbone, name, Houlsby(size)))
    tasks = pt.MultiTask(backbone, store)
    before = memory()["now_bytes"]
    load = measured(lambda: [tasks.load(name) for name in names])
    held = memory()["now_bytes"] - before
    first = seconds_of(lambda: tasks.predict([TEXTS[0]], task=names[0]))
    asked = [names[number * count // 26] for number in range(26)]
    mixed = seconds_of(lambda: tasks.predict([TEXTS[0]] * 26, task=asked), repeats=15)
    return {**load, "memory_mib": held / MIB, "first_answer_ms": 1e3 * first, "mixed_26_ms": 1e3 * mixed}


def of_loaded_small(scratch: Path, count: int) -> dict[str, Any]:
    """As ``of_loaded``, of size 8."""
    return of_loaded(scratch, count, size=8)


def untrained(backbone: Any, task: str, method: Any) -> Any:
    """An adapter as training makes it, at its start."""
    from polytask.adapters.adapter import Adapter
    from polytask.adapters.module import LoadedAdapter

    labels = ("no", "yes")
    tensors = LoadedAdapter(backbone, method, "classification", labels, key=(task,)).tensors()
    about: dict[str, Any] = {"method": method, "backbone": backbone, "metric": "accuracy", "score": 0.5}
    return Adapter.create(tensors, task=task, kind="classification", labels=labels, recipe={"max_length": 128}, **about)


def of_store(scratch: Path, count: int) -> dict[str, Any]:
    """A store of ``count`` versions, a hundred to a task: the time to put all of them, and of single calls then."""
    import polytask as pt
    from polytask.methods import LayerNormOnly

    backbone, store = pt.load_backbone("minilm", device="cpu"), pt.Store(scratch / "store")
    adapters = [untrained(backbone, f"task{number}", LayerNormOnly()) for number in range(math.ceil(count / 100))]
    put = measured(lambda: [store.put(adapters[number // 100]) for number in range(count)])
    return {
        **put,
        "put_ms": 1e3 * seconds_of(lambda: store.put(adapters[0]), repeats=5),
        "get_ms": 1e3 * seconds_of(lambda: store.get("task0"), repeats=5),
        "tasks_ms": 1e3 * seconds_of(store.tasks, repeats=5),
        "memory_mib": memory()["now_bytes"] / MIB,
    }


def of_answered(scratch: Path, count: int) -> dict[str, Any]:
    """``count`` rows that a generator yields, answered by one adapter."""
    import polytask as pt
    from polytask.methods import Houlsby

    backbone, store = pt.load_backbone("minilm", device="cpu"), pt.Store(scratch / "store")
    store.put(untrained(backbone, "task", Houlsby(64)))
    tasks = pt.MultiTask(backbone, store)
    tasks.predict(list(TEXTS), task="task")
    before = memory()["now_bytes"]
    rows = (f"{TEXTS[number % 2]} {number}" for number in range(count))
    taken = measured(lambda: sum(1 for _ in tasks.predict(rows, task="task")))
    return {**taken, "memory_mib": (memory()["peak_bytes"] - before) / MIB}


def of_read(scratch: Path, count: int) -> dict[str, Any]:
    """``count`` rows of CSV read, and written with an answer, as by ``polytask predict``; the answers are ready."""
    import polytask as pt
    from polytask.cli.streams import answer_stream
    from polytask.inference.prediction import Prediction
    from polytask.methods import LayerNormOnly

    backbone, store = pt.load_backbone("minilm", device="cpu"), pt.Store(scratch / "store")
    entry = store.put(untrained(backbone, "task", LayerNormOnly()))
    answer = Prediction("task", label="yes", probs={"no": 0.25, "yes": 0.75})
    rows, answers = scratch / "rows.csv", scratch / "answers.csv"
    with rows.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "number"))
        writer.writerows((f"{TEXTS[number % 2]} {number}", number) for number in range(count))
    before, how = memory()["now_bytes"], dict.fromkeys(("format", "encoding", "top_k"))
    with contextlib.redirect_stdout(sys.stderr):
        taken = measured(
            lambda: answer_stream(
                str(rows),
                {"task": entry},
                lambda: lambda texts, task: [answer] * len(texts),
                {"text": "text", "text_pair": None},
                output=str(answers),
                as_json=False,
                drop_empty=False,
                **how,
            )
        )
    return {**taken, "memory_mib": (memory()["peak_bytes"] - before) / MIB, "answers_mb": answers.stat().st_size / 1e6}


def of_backbones(scratch: Path, layers: int) -> dict[str, Any]:
    """BERT of ``layers`` layers and random weights: four training steps and 64 answers at 32 × 32 tokens."""
    import torch
    import transformers

    import polytask as pt
    from work import model_folder

    width = {6: 384, 12: 768, 24: 1024}[layers]
    config = transformers.BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32, intermediate_size=4 * width
    )
    folder = scratch / "model"
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    for file in model_folder("minilm", scratch).glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    backbone, store = pt.load_backbone(folder, device="cpu"), pt.Store(scratch / "store")
    texts = [f"{TEXTS[number % 2]} {number} " * 2 for number in range(128)]
    task = pt.read_task((texts, ["no" if number % 2 else "yes" for number in range(128)]), name="task")
    taken = measured(lambda: store.put(pt.train(backbone, task, pt.Recipe(pt.Houlsby(64), epochs=1))[0]))
    tasks = pt.MultiTask(backbone, store)
    answer = seconds_of(lambda: tasks.predict(texts[:64], task="task"), repeats=5)
    return {
        **taken,
        "size": sum(each.numel() for each in backbone.model.get_submodule(backbone.row.layers).parameters()) / 1e6,
        "answer_64_ms": 1e3 * answer,
        "memory_mib": memory()["peak_bytes"] / MIB,
    }


PARTS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], tuple[int, ...], tuple[int, ...]]] = {
    "loaded": (of_loaded, (1, 10, 100, 1000), (1, 10)),
    "loaded_small": (of_loaded_small, (100, 1000, 10_000), (10, 100)),
    "store": (of_store, (100, 1000, 10_000), (10, 100)),
    "answered": (of_answered, (1000, 10_000, 100_000, 1_000_000), (100, 1000)),
    "read": (of_read, (10_000, 100_000, 1_000_000, 10_000_000), (1000, 10_000)),
    "backbones": (of_backbones, (6, 12, 24), (6,)),
}
"""Each part, with the counts that it is measured at, and those of a quick look."""


def in_a_process(part: str, count: int, threads: int) -> dict[str, Any]:
    """Measure one line in a process of its own."""
    command = [sys.executable, __file__, "--line", f"{part},{count}", "--threads", str(threads)]
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, **quiet}, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def lines_of(part: str, counts: Sequence[int], threads: int, known: Sequence[Row]) -> Iterator[Row]:
    """The CSV rows of a part; those that are known are not measured again."""
    before: Row | None = None
    for count in counts:
        row = next((row for row in known if (row["part"], row["count"]) == (part, str(count))), None)
        row = row or as_row(part, count, in_a_process(part, count, threads))
        if before is not None:
            growth = math.log(float(row["processor_s"]) / float(before["processor_s"]))
            row["exponent"] = f"{growth / math.log(float(row['size']) / float(before['size'])):.2f}"
        before = row
        print(" ".join(f"{name}={value}" for name, value in row.items()), file=sys.stderr, flush=True)
        yield row


def as_row(part: str, count: int, found: dict[str, Any]) -> Row:
    """A CSV row of what a process has measured."""
    more = {name: value for name, value in found.items() if name not in (*COLUMNS, "size")}
    return {
        "part": part,
        "count": str(count),
        "size": number(found.get("size", count)),
        **{name: number(found[name]) for name in COLUMNS},
        "an_item_us": number(1e6 * found["processor_s"] / count),
        "exponent": "",
        "more": " ".join(f"{name}={number(value)}" for name, value in more.items()),
    }


def number(value: float) -> str:
    """Four digits, without an exponent."""
    return f"{float(f'{value:.4g}'):.12g}"


def main() -> None:
    """Measure and write ``growth.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--up-to", type=int, default=10**9, help="leave out larger counts")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--line", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    if args.line:
        import torch

        torch.set_num_threads(args.threads)
        part, count = args.line.split(",")
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(PARTS[part][0](Path(scratch), int(count))))
        return
    path = results_folder(args.out, "cpu", args.threads) / "growth.csv"
    known = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    for part in args.only.split(","):
        counts = [count for count in PARTS[part][2 if args.quick else 1] if count <= args.up_to]
        for row in lines_of(part, counts, args.threads, known):
            same = (row["part"], row["count"])
            known = [*(other for other in known if (other["part"], other["count"]) != same), row]
            order = list(PARTS)
            write_csv(path, sorted(known, key=lambda row: (order.index(row["part"]), int(row["count"]))))


if __name__ == "__main__":
    main()
