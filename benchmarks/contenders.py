"""Runs contenders in turns: each is a process that lives as long as the benchmark, in its own virtual environment.

Every figure is a ratio. The speed of a machine drifts, so the contenders run A B C, B C A, … over the same batches; the
first round does not count, and the median of the others is reported.

Requests and answers are one line of JSON each. A contender writes ``{"ready": facts}`` when it has loaded. Requests are

    {"run": [0, 1, 2]}    to run these batches           {"seconds": […], "values": […]}
    {"memory": true}      its memory now, and its peak since the last request
                                                         {"now_bytes": …, "peak_bytes": …}

Only the standard library is needed, so that any environment can run a contender. The source of Polytask is on its path,
for the loop and models that ``polytask bench`` shares (``polytask.bench.reference_loop`` and ``peers``: torch only).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
Run = Callable[[int], object]
Make = Callable[[dict[str, Any]], tuple[Run, dict[str, Any]]]


class Contender:
    """A process that runs batches on request.

    ``module`` is run by ``python`` in this folder; its ``settings`` are JSON values. ``facts`` are what it says of
    itself once it is ready: ``wait`` for it before the first ``ask``, and before the next one loads, which may measure.
    ``source`` is the folder from which it imports Polytask.
    """

    def __init__(
        self, name: str, python: Path, module: str, settings: Mapping[str, Any], source: Path = HERE.parent / "src"
    ) -> None:
        self.name, self.settings = name, dict(settings)
        self.facts: dict[str, Any] = {}
        self.started = time.perf_counter()
        threads = str(settings["threads"])
        paths = os.pathsep.join([str(HERE), str(source), *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [str(python), "-m", module, json.dumps(self.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **quiet, "PYTHONPATH": paths, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )

    def wait(self) -> Contender:
        """Wait until the process has loaded."""
        self.facts = self._answer()["ready"]
        return self

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.process.wait()
        self.errors.seek(0)
        raise RuntimeError(f"{self.name} ended:\n{self.errors.read()[-3000:]}")


def serve(make: Make) -> None:
    """Be a contender: make what runs a batch from the settings, then answer until there is nothing more to answer.

    What libraries print goes to the error stream, so that only answers are on the line.
    """
    settings = json.loads(sys.argv[1])
    line = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run, facts = make(settings)
    settle = _settler(settings["device"])
    print(json.dumps({"ready": {**facts, "versions": versions()}}), file=line)
    for asked in sys.stdin:
        request = json.loads(asked)
        if "memory" in request:
            print(json.dumps(memory(settings["device"])), file=line)
            continue
        seconds, values = [], []
        for batch in request["run"]:
            start = time.perf_counter()
            value = run(batch)
            settle()
            seconds.append(time.perf_counter() - start)
            values.append(value)
        print(json.dumps({"seconds": seconds, "values": values}), file=line)


def _settler(device: str) -> Callable[[], object]:
    """A function that waits until the device has finished."""
    if device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize


def memory(device: str = "cpu") -> dict[str, int]:
    """Bytes that this process holds, and has held at most since it was last asked: of a GPU its memory, else RAM."""
    if device != "cpu":
        import torch

        found = {"now_bytes": torch.cuda.memory_allocated(), "peak_bytes": torch.cuda.max_memory_allocated()}
        torch.cuda.reset_peak_memory_stats()
        return found
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kib = {name: int(status[name].split()[0]) for name in ("VmRSS", "VmHWM")}
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: proc(5)
    return {"now_bytes": 1024 * kib["VmRSS"], "peak_bytes": 1024 * kib["VmHWM"]}


def versions() -> dict[str, str]:
    """The installed versions of the packages that matter."""
    found = {}
    for name in ("torch", "transformers", "adapters", "peft", "onnxruntime", "polytask"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # another contender's
    return found


def interleaved(contenders: Sequence[Contender], batches: Sequence[int], rounds: int) -> dict[str, list[float]]:
    """The seconds that each contender takes for a batch, the median of the rounds, in the order of ``batches``."""
    taken: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds + 1):
        for contender in _rotated(contenders, turn):
            seconds = contender.ask({"run": list(batches)})["seconds"]
            if turn:
                taken[contender.name].append(seconds)
        print(f"round {turn} of {rounds}", file=sys.stderr, flush=True)
    return {name: [median(column) for column in zip(*of_rounds)] for name, of_rounds in taken.items()}


def alternated(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """As ``interleaved``, for functions of one process: the median seconds of each."""
    from polytask.bench import interleave  # not at the top: it is for the processes that measure, not for the measured

    return interleave.alternated(runs, rounds)


def _rotated(items: Sequence[Any], by: int) -> list[Any]:
    by %= max(1, len(items))
    return [*items[by:], *items[:by]]


def environments(folder: Path) -> dict[str, Path]:
    """The Python of each library: this one for ours; for a peer the one that ``peers/setup.sh`` made."""
    pythons = {name: folder / name / "bin" / "python" for name in ("adapters", "peft")}
    for name, python in pythons.items():
        if not python.exists():
            sys.exit(f"{name} is not installed in {folder / name}. Run benchmarks/peers/setup.sh {folder}")
    return {"polytask": Path(sys.executable), **pythons}


def hardware(device: str, threads: int) -> str:
    """A name for folders: the processor, its matrix units and the threads in use, or the GPU."""
    if device != "cpu":
        import torch

        return _slug(torch.cuda.get_device_name())
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    units = "amx" if "amx_bf16" in named.get("flags", "") else ""
    model = "-".join(filter(None, [named.get("model name", "cpu"), named.get("model", ""), units]))
    return f"{_slug(model)}-{threads}threads"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|processor|cpu @.*", "", text.lower())).strip("-")


def of_operations(doc: str | None, rounds: int, threads: int) -> argparse.Namespace:
    """The command line of a benchmark of single operations: how many rounds, on so many threads, and where to."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    return parser.parse_args()


def results_folder(out: Path, device: str, threads: int) -> Path:
    """``out/<hardware>-torch<version>``."""
    return out / f"{hardware(device, threads)}-torch{version('torch').partition('+')[0]}"


def beside_others(path: Path, rows: Iterable[Mapping[str, Any]], identity: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows of the file at ``path`` with other values of ``identity`` than all of ``rows``, and these."""
    rows = list(rows)
    if not path.exists():
        return rows
    with path.open(newline="", encoding="utf-8") as file:
        before = list(csv.DictReader(file))
    again = {tuple(str(row[name]) for name in identity) for row in rows}
    return [*(row for row in before if tuple(row[name] for name in identity) not in again), *rows]


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all, and print them."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
    print(path.read_text(), end="")
    print(f"written to {path}", file=sys.stderr)
