"""Measures the server: HTTP against the engine, latency, mixed tasks, eight classifiers on one text, and the peers.

    python benchmarks/serving.py [--only throughput latency processes eight peers] [--quick] [--threads 2]

Each part writes ``serving-PART.csv``. Servers run as separate processes; the load generator shares the machine with
them, so on two cores it costs them a part of their throughput. The peers need ``benchmarks/peers/setup.sh FOLDER onnx
infinity`` first; one that is not there is left out with a message.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import polytask as pt  # isort: skip  (before torch, so that threads wait here as they do in the server)
import torch

from contenders import results_folder, versions, write_csv
from serving_load import Load, Request, at_once, closed_loop, open_loop, request
from serving_systems import (
    HERE,
    export_classifier,
    infinity,
    onnx_server,
    polytask,
    save_classifier,
    store_of,
    text_of,
    texts,
)

NUM_TASKS, NUM_CLASSIFIERS = 26, 8
BATCH, CLIENTS = 32, 4
"""Full batches: texts of a request, and clients at the same time."""
SHARES = (0.5, 0.8, 2.0)
"""Rates of the open loop, relative to the capacity."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """``seconds`` is the time of each load, ``times`` the repetitions of a single request."""

    backbone: str
    threads: int
    seconds: float
    turns: int
    times: int
    peers: Path
    folder: Path


class Stores:
    """Stores of random adapters; each is made when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.backbone = pt.load_backbone(settings.backbone, device="cpu")
        self.top = max(1, self.backbone.num_layers // 3)

    def all_layers(self, number: int = NUM_TASKS, copy: int = 0) -> Path:
        """Adapters of size 64 in all layers."""
        return self._made(f"all-{number}-{copy}", pt.Houlsby(64), number)

    def top_layers(self, number: int) -> Path:
        """Adapters of size 64 in the top third of the layers."""
        return self._made(f"top-{number}", pt.Houlsby(64, layers=self.top), number)

    def _made(self, name: str, method: pt.Method, number: int) -> Path:
        folder = self.settings.folder / name
        return folder if folder.exists() else store_of(folder, self.backbone, method, number)


def classify(url: str, given: Sequence[str], models: str | Sequence[str]) -> Request:
    """A request of the native API for one task or several."""
    names = {"model": models} if isinstance(models, str) else {"models": list(models)}
    rows = len(given) * (1 if isinstance(models, str) else len(models))
    return request(url, "/v1/classify", {**names, "input": list(given)}, rows)


def full_batches(url: str, tasks: Sequence[str]) -> list[Request]:
    """Requests of 32 texts for one task each, the tasks in turn."""
    given = texts(BATCH * 8)
    return [classify(url, given[n % 8 * BATCH :][:BATCH], tasks[n % len(tasks)]) for n in range(8 * max(1, len(tasks)))]


def single_texts(url: str, tasks: Sequence[str]) -> list[Request]:
    """Requests of one text for one task each, the tasks in turn."""
    return [classify(url, [text], tasks[n % len(tasks)]) for n, text in enumerate(texts(256))]


def measured(requests: Sequence[Request], clients: int, settings: Settings) -> Load:
    """A closed loop after a warm-up."""
    closed_loop(requests, clients, min(2.0, settings.seconds))
    return closed_loop(requests, clients, settings.seconds)


def names(number: int) -> list[str]:
    """The first tasks of a store."""
    return [f"t{n}" for n in range(number)]


# The parts


def throughput(stores: Stores, settings: Settings) -> Iterator[Row]:
    """HTTP against ``MultiTask``, in turns: as many rows in a call as the clients have in flight together.

    Both have the same thread settings, and get the same texts and tasks in the same order.
    ``generator_cores`` is the processor time of the load generator, which the engine alone has for itself.
    """
    store = stores.all_layers()
    together = pt.MultiTask(stores.backbone, pt.Store(store))
    for number in (1, NUM_TASKS):
        direct: list[float] = []
        http: list[Load] = []
        with polytask(settings.backbone, [store], settings.threads) as (system,):
            requests = full_batches(system.url, names(number))
            for _ in range(settings.turns):
                direct.append(engine_rows_per_s(together, number, settings.seconds))
                http.append(measured(requests, CLIENTS, settings))
        rates = [load.rows / load.seconds for load in http]
        shares = [ours / engine for ours, engine in zip(rates, direct)]
        row = {"tasks": number, "turns": settings.turns, "rows_in_flight": BATCH * CLIENTS}
        row |= {"engine_rows_per_s": round(median(direct), 1), "http_rows_per_s": round(median(rates), 1)}
        row |= {"share": round(median(shares), 3), "lowest_share": round(min(shares), 3)}
        yield {**row, "generator_cores": round(median(load.cpu_s / load.seconds for load in http), 3)}


def engine_rows_per_s(together: pt.MultiTask, number: int, seconds: float) -> float:
    """Rows per second of the library, with the rows of four requests of ``full_batches`` in a call."""
    given = texts(BATCH * 8)
    calls = [
        [(text, f"t{n % number}") for n in range(first, first + CLIENTS) for text in given[n % 8 * BATCH :][:BATCH]]
        for first in range(0, 8 * number, CLIENTS)
    ]
    for call in calls[:8]:
        together.predict(*zip(*call))
    rows, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        call = calls[rows // (BATCH * CLIENTS) % len(calls)]
        rows += len(together.predict(*zip(*call)))
    return rows / took


def latency(stores: Stores, settings: Settings) -> Iterator[Row]:
    """One text a request: by the number of clients, then at rates relative to the highest throughput found."""
    with polytask(settings.backbone, [stores.all_layers()], settings.threads) as (system,):
        for number in (1, NUM_TASKS):
            requests, capacity = single_texts(system.url, names(number)), 0.0
            for clients in (1, 4, 16, 64):
                load = measured(requests, clients, settings)
                capacity = max(capacity, load.requests_per_s)
                yield {"tasks": number, "loop": "closed", "clients": clients, "rate": "", **load.to_row()}
            for share in SHARES:
                load = open_loop(requests, capacity * share, settings.seconds)
                rate = f"{share:.0%} of {capacity:.0f}/s"
                yield {"tasks": number, "loop": "open", "clients": "", "rate": rate, **load.to_row()}


def processes(stores: Stores, settings: Settings) -> Iterator[Row]:
    """One process for eight tasks against a process for each task, under the same loads."""
    one = [stores.all_layers(NUM_CLASSIFIERS)]
    each = [stores.all_layers(1, copy=n) for n in range(NUM_CLASSIFIERS)]
    for system, folders in {"one process": one, "a process for each task": each}.items():
        with polytask(settings.backbone, folders, settings.threads) as servers:
            for kind, make, clients in (("32 texts", full_batches, CLIENTS), ("1 text", single_texts, 16)):
                if len(servers) == 1:
                    requests = make(servers[0].url, names(NUM_CLASSIFIERS))
                else:
                    requests = interleaved([make(server.url, ["t0"]) for server in servers])
                load = measured(requests, clients, settings)
                memory = round(sum(server.memory_mb for server in servers), 1)
                row = {"system": system, "tasks": NUM_CLASSIFIERS, "texts_a_request": kind, "clients": clients}
                yield {**row, **load.to_row(), "memory_mb": memory}


def interleaved(lists: Sequence[Sequence[Request]]) -> list[Request]:
    """The first of each list, then the second of each, …"""
    return [one for several in zip(*lists) for one in several]


def eight(stores: Stores, settings: Settings) -> Iterator[Row]:
    """Eight classifiers on one text, as a request router has them."""
    tasks, lengths = names(NUM_CLASSIFIERS), (12, 96)
    one_store = {
        "all": stores.all_layers(NUM_CLASSIFIERS),
        f"top {stores.top}": stores.top_layers(NUM_CLASSIFIERS),
    }
    for layers, store in one_store.items():
        with polytask(settings.backbone, [store], settings.threads) as (system,):
            for length in lengths:
                text = [text_of(length)]
                ways = {
                    "one request with eight tasks": [classify(system.url, text, tasks)],
                    "eight requests at once": [classify(system.url, text, task) for task in tasks],
                    "one request with one task": [classify(system.url, text, tasks[0])],
                }
                for way, requests in ways.items():
                    yield {"way": way, "layers": layers, **repeated(requests, length, settings, [system])}
    with polytask(
        settings.backbone, [stores.all_layers(1, copy=n) for n in range(NUM_CLASSIFIERS)], settings.threads
    ) as servers:
        for length in lengths:
            requests = [classify(server.url, [text_of(length)], "t0") for server in servers]
            yield {"way": "eight processes", "layers": "all", **repeated(requests, length, settings, servers)}
    yield from merged_copies(lengths, settings)


def repeated(requests: Sequence[Request], length: int, settings: Settings, systems: Sequence[Any]) -> Row:
    """The columns of ``eight``: latencies until the last answer, and memory."""
    at_once(requests, 5)
    load = at_once(requests, settings.times)
    assert set(load.statuses) == {200}, load.statuses
    return latencies(load, length, sum(system.memory_mb for system in systems))


def latencies(load: Load, length: int, memory_mb: float) -> Row:
    """Columns of a single text."""
    p50, p99 = (round(1000 * load.quantile(share), 1) for share in (0.5, 0.99))
    return {"words": length, "p50_ms": p50, "p99_ms": p99, "memory_mb": round(memory_mb, 1)}


def merged_copies(lengths: Sequence[int], settings: Settings) -> Iterator[Row]:
    """Eight whole models in one process, without HTTP."""
    program = [sys.executable, str(HERE / "peers" / "copies.py"), settings.backbone, str(NUM_CLASSIFIERS)]
    command = [*program, str(settings.times), *map(text_of, lengths)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings.threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    for length, seconds in zip(lengths, found["seconds"]):
        load = Load(latencies=seconds)
        yield {
            "way": "eight merged copies, without HTTP",
            "layers": "",
            **latencies(load, length, found["memory_mb"]),
        }


def peers(stores: Stores, settings: Settings) -> Iterator[Row]:
    """One classifier: this server, ONNX Runtime behind FastAPI, and infinity-emb."""
    store, threads = stores.all_layers(1), settings.threads
    for dtype in ("auto", "float32"):
        with polytask(settings.backbone, [store], threads, "--dtype", dtype) as (system,):
            yield from one_classifier("polytask", dtype, system, "/v1/classify", {"model": "t0"}, settings)
    exact = pt.load_backbone(settings.backbone, device="cpu", dtype="float32")
    if python := python_of("onnx", settings):
        for dtype, model in export_classifier(exact, settings.folder).items():
            with onnx_server(python, model, threads) as system:
                yield from one_classifier("FastAPI + ONNX Runtime", dtype, system, "/classify", {}, settings)
    if python := python_of("infinity", settings):
        model = save_classifier(exact, settings.folder / "classifier")
        with infinity(python, model, threads) as system:
            yield from one_classifier("infinity-emb", "float32", system, "/classify", {"model": "peer"}, settings)


def python_of(peer: str, settings: Settings) -> Path | None:
    """The Python of a peer's environment; None, with a message, if there is none."""
    python = settings.peers / peer / "bin" / "python"
    if python.exists():
        return python
    print(f"{peer} is left out: run benchmarks/peers/setup.sh {settings.peers} {peer}", file=sys.stderr)
    return None


def one_classifier(
    name: str, dtype: str, system: Any, path: str, more: dict[str, Any], settings: Settings
) -> Iterator[Row]:
    """Full batches and single texts."""
    field, given = "input", texts(256)
    batches = [
        request(system.url, path, {field: given[n * BATCH :][:BATCH], **more}, BATCH)
        for n in range(len(given) // BATCH)
    ]
    singles = [request(system.url, path, {field: [text], **more}, 1) for text in given]
    for kind, requests, clients in (("32 texts", batches, CLIENTS), ("1 text", singles, 1), ("1 text", singles, 16)):
        load = measured(requests, clients, settings)
        row = {"system": name, "dtype": dtype, "texts_a_request": kind, "clients": clients}
        yield {**row, **load.to_row(), "memory_mb": system.memory_mb}


PARTS: dict[str, Callable[[Stores, Settings], Iterator[Row]]] = {
    "throughput": throughput,
    "latency": latency,
    "processes": processes,
    "eight": eight,
    "peers": peers,
}


def main() -> None:
    """Measure the parts and write a CSV file for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="the parts to measure")
    parser.add_argument("--quick", action="store_true", help="short loads, to see that everything works")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each server")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), metavar="FOLDER", help="of peers/setup.sh")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    torch.set_num_threads(args.threads)
    seconds, turns, times = (2.0, 1, 10) if args.quick else (6.0, 3, 60)
    known = " ".join(f"{name}={version}" for name, version in versions().items())
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(args.backbone, args.threads, seconds, turns, times, args.peers.resolve(), Path(folder))
        stores = Stores(settings)
        for part in args.only:
            shared = {"model": args.backbone, "load_average": round(os.getloadavg()[0], 1), "versions": known}
            rows = [{**row, **shared} for row in PARTS[part](stores, settings)]
            write_csv(results_folder(args.out, "cpu", args.threads) / f"serving-{part}.csv", rows)


if __name__ == "__main__":
    main()
