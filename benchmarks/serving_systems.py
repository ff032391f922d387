"""The servers that ``serving.py`` measures, each in a process of its own, and the stores and texts they are given.

Adapters and heads are random, because only their cost matters.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polytask as pt
from polytask.adapters.module import LoadedAdapter
from polytask.data.task import Rows
from polytask.interchange.onnx import export_onnx

HERE = Path(__file__).parent
PATIENCE_S = 300.0
WORDS = (
    "the market fell after a quietly funny film about two striking workers who lost their bags at an airport".split()
)
LENGTHS = (6, 9, 12, 15, 20, 26, 34, 45)


def text_of(num_words: int) -> str:
    """A text of so many words."""
    return " ".join(WORDS[n % len(WORDS)] for n in range(num_words))


def texts(number: int) -> list[str]:
    """Different texts of 6 to 45 words."""
    return [
        " ".join(WORDS[(n * 7 + k) % len(WORDS)] for k in range(LENGTHS[n % len(LENGTHS)])) + f" {n}"
        for n in range(number)
    ]


def random_adapter(backbone: pt.Backbone, task: str, method: pt.Method, seed: int) -> pt.Adapter:
    """An untrained classifier of two labels."""
    live = LoadedAdapter(backbone, method, "classification", ("no", "yes"), key=(seed, task))
    own = {"task": task, "kind": "classification", "labels": ("no", "yes"), "metric": "accuracy", "score": 0.5}
    recipe = {"max_length": 128}
    return pt.Adapter.create(live.tensors(), method=method, backbone=backbone, recipe=recipe, inputs="single", **own)


def store_of(folder: Path, backbone: pt.Backbone, method: pt.Method, number: int) -> Path:
    """A store with the tasks ``t0``, ``t1``, …"""
    store = pt.Store(folder)
    for n in range(number):
        store.put(random_adapter(backbone, f"t{n}", method, n))
    return folder


@dataclass
class System:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def memory_mb(self) -> float:
        """Memory of its processes: private pages, and shared ones in equal parts (PSS)."""
        total = 0
        for pid in _with_children(self.process.pid):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])  # type: ignore[index]
        return round(total / 1024, 1)


def _with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(other for child in children for other in _with_children(int(child)))]


@contextmanager
def started(
    commands: Sequence[Sequence[str]], url_of: Callable[[int, str], str | None], threads: int, **environment: str
) -> Iterator[list[System]]:
    """Start servers together and wait for all of them.

    Args:
        url_of: the address of a server by its number and its log so far; None while it does not listen.
        threads: for the computations of each.
    """
    own = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", **environment}
    logs = [tempfile.NamedTemporaryFile() for _ in commands]  # noqa: SIM115
    processes = [
        subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env=own)
        for command, log in zip(commands, logs)
    ]
    try:
        yield [
            System(_wait(process, Path(log.name), n, url_of), process)
            for n, (process, log) in enumerate(zip(processes, logs))
        ]
    finally:
        for process in processes:
            process.terminate()
        for process, log in zip(processes, logs):
            process.wait()
            log.close()


def _wait(process: subprocess.Popen[bytes], log: Path, number: int, url_of: Callable[[int, str], str | None]) -> str:
    until = time.monotonic() + PATIENCE_S
    while (url := url_of(number, log.read_text(errors="replace"))) is None:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the server does not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)
    return url


@contextmanager
def polytask(backbone: str, stores: Sequence[Path], threads: int, *options: str) -> Iterator[list[System]]:
    """A server for each store."""
    program = [sys.executable, "-c", "from polytask.cli import main; main()", "serve", "--backbone", backbone]
    commands = [[*program, "--store", str(store), "--port", "0", *options] for store in stores]

    def url_of(_: int, log: str) -> str | None:
        found = re.search(r"at (http://\S+)/ ", log)
        return found[1] if found else None

    with started(commands, url_of, threads) as systems:
        yield systems


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _on_port(command: Callable[[int], list[str]], threads: int, **environment: str) -> Iterator[System]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with started([command(port)], lambda *_: url if listens(port) else None, threads, **environment) as (system,):
        yield system


# Peers


def export_classifier(backbone: pt.Backbone, folder: Path) -> dict[str, Path]:
    """Write a fine-tuned classifier of the backbone's size as ONNX in fp32 and int8 (dynamic quantization)."""
    classifier = random_adapter(backbone, "classifier", pt.FullFineTuning(), 0)
    rows = Rows(texts(8), targets=[0, 1] * 4)
    files = {"float32": folder / "fp32.onnx", "int8": folder / "int8.onnx"}
    for dtype, file in files.items():
        export_onnx(classifier, file, backbone=backbone, int8=dtype == "int8", rows=rows)
    return files


@contextmanager
def onnx_server(python: Path, model: Path, threads: int) -> Iterator[System]:
    """FastAPI with ONNX Runtime."""

    def command(port: int) -> list[str]:
        server = str(HERE / "peers" / "onnx_server.py")
        return [str(python), server, str(model), str(model.with_suffix(".tokenizer.json")), str(port), str(threads)]

    with _on_port(command, threads, PYTHONPATH="") as system:
        yield system


def save_classifier(backbone: pt.Backbone, folder: Path) -> Path:
    """A random classifier of the backbone's size as a checkpoint of transformers."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    settings = {k: v for k, v in backbone.config.to_dict().items() if k not in ("architectures", "dtype")}
    labels = {0: "no", 1: "yes"}  # infinity-emb takes a model whose configuration has no labels for a reranker
    config = AutoConfig.for_model(**{**settings, "id2label": labels, "label2id": {v: k for k, v in labels.items()}})
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    settings_file = folder / "tokenizer_config.json"
    tokenizer = json.loads(settings_file.read_text()) | {
        "tokenizer_class": "PreTrainedTokenizerFast"
    }  # known to 4, too
    settings_file.write_text(json.dumps(tokenizer))
    return folder


@contextmanager
def infinity(python: Path, model: Path, threads: int) -> Iterator[System]:
    """infinity-emb with its torch engine, in fp32; BetterTransformer does not support transformers 4.57."""

    def command(port: int) -> list[str]:
        program = [str(python.parent / "infinity_emb"), "v2", "--model-id", str(model), "--port", str(port)]
        return [
            *program,
            "--device",
            "cpu",
            "--engine",
            "torch",
            "--no-bettertransformer",
            "--served-model-name",
            "peer",
        ]

    with _on_port(command, threads, PYTHONPATH="", HF_HUB_OFFLINE="1", DO_NOT_TRACK="1") as system:
        yield system
