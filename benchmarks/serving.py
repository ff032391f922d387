"""Measures the server: HTTP against the engine, one task against 26, eight classifiers on one text, and the peers.

    python benchmarks/serving.py [--quick] [--backbone minilm] [--out results/serving]

Adapters are random, because only their cost matters. Servers run as separate processes; the
load generator shares the machine with them, so on two cores it costs the server a part of its throughput. To measure
infinity-emb in the same run, pass ``--infinity PYTHON``, the Python of an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import polytask as pt
from polytask.adapters.module import LoadedAdapter
from serving_load import Load, Request, at_once, closed_loop, open_loop, request

HERE = Path(__file__).parent
NUM_TASKS, NUM_CLASSIFIERS, BATCH = 26, 8, 32
WORDS = (
    "the market fell after a quietly funny film about two striking workers who lost their bags at an airport".split()
)
LENGTHS = (6, 9, 12, 15, 20, 26, 34, 45)


def texts(number: int) -> list[str]:
    """Texts of 6 to 45 words."""
    return [
        " ".join(WORDS[(n * 7 + k) % len(WORDS)] for k in range(LENGTHS[n % len(LENGTHS)])) + f" {n}"
        for n in range(number)
    ]


def random_adapter(backbone: pt.Backbone, task: str, method: pt.Method, seed: int) -> pt.Adapter:
    live = LoadedAdapter(backbone, method, "classification", ("no", "yes"), key=(seed, task))
    own = {"task": task, "kind": "classification", "labels": ("no", "yes"), "metric": "accuracy", "score": 0.5}
    recipe = {"max_length": 128}
    return pt.Adapter.create(live.tensors(), method=method, backbone=backbone, recipe=recipe, inputs="single", **own)


def store_of(folder: Path, backbone: pt.Backbone, method: pt.Method, number: int) -> Path:
    store = pt.Store(folder)
    for n in range(number):
        store.put(random_adapter(backbone, f"t{n}", method, n))
    return folder


@contextmanager
def started(command: Sequence[str], ready: Any, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
        try:
            until = time.monotonic() + 300
            while not ready(Path(log.name).read_text(errors="replace")):
                assert process.poll() is None, Path(log.name).read_text(errors="replace")
                assert time.monotonic() < until, "not ready within five minutes"
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait()


@contextmanager
def polytask(store: Path, backbone: str, *options: str) -> Iterator[tuple[str, int]]:
    """A server's address and its process."""
    command = [sys.executable, "-c", "from polytask.cli import main; main()", "serve", "--store", str(store)]
    found: list[str] = []

    def ready(log: str) -> bool:
        found[:] = re.findall(r"at (http://\S+)/ ", log)
        return bool(found)

    with started([*command, "--backbone", backbone, "--port", "0", *options], ready) as process:
        yield found[0], process.pid


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_mb(*pids: int) -> float:
    """The memory of several processes together: private pages, and shared ones in equal parts (PSS)."""
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])  # type: ignore[index]
    return round(total / 1024, 1)


def classify(of: Sequence[str], model: str | Sequence[str]) -> Request:
    names = {"model": model} if isinstance(model, str) else {"models": list(model)}
    rows = len(of) * (1 if isinstance(model, str) else len(model))
    return request("/v1/classify", {**names, "input": list(of)}, rows)


# What is measured


def engine_directly(backbone: pt.Backbone, store: Path, tasks: int, seconds: float) -> float:
    """Rows a second of ``MultiTask`` on batches of 32 texts of so many tasks."""
    together, given = pt.MultiTask(backbone, pt.Store(store)), texts(BATCH * 8)
    batches = [given[at : at + BATCH] for at in range(0, len(given), BATCH)]
    names = [f"t{n % tasks}" for n in range(BATCH)]
    together.predict(batches[0], names)
    rows, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        rows += len(together.predict(batches[rows // BATCH % len(batches)], names))
    return rows / (time.perf_counter() - start)


def full_batches(url: str, tasks: int, seconds: float) -> Load:
    """Requests of 32 texts for one task each, from four clients."""
    given = texts(BATCH * 8)
    requests = [classify(given[n % 8 * BATCH :][:BATCH], f"t{n % tasks}") for n in range(8 * tasks)]
    closed_loop(url, requests, 4, min(2.0, seconds))
    return closed_loop(url, requests, 4, seconds)


def throughput(backbone: pt.Backbone, store: Path, name: str, seconds: float, turns: int) -> dict[str, Any]:
    """Through HTTP against the engine, in turns."""
    found: dict[str, Any] = {}
    for tasks in (1, NUM_TASKS):
        pairs = []
        for _ in range(turns):
            direct = engine_directly(backbone, store, tasks, seconds)
            with polytask(store, name) as (url, _):
                pairs.append((direct, full_batches(url, tasks, seconds).to_json()["rows_per_s"]))
        shares = sorted(http / direct for direct, http in pairs)
        found[f"{tasks} tasks"] = {"direct and HTTP, rows/s": pairs, "median share": round(shares[len(shares) // 2], 3)}
    return found


def latency(store: Path, name: str, seconds: float) -> dict[str, Any]:
    """One text a request: closed loop by clients, open loop by rate, up to twice the capacity."""
    given, found = texts(256), {}
    with polytask(store, name) as (url, pid):
        for tasks in (1, NUM_TASKS):
            requests = [classify([text], f"t{n % tasks}") for n, text in enumerate(given)]
            closed_loop(url, requests, 4, 2.0)
            rows = {clients: closed_loop(url, requests, clients, seconds).to_json() for clients in (1, 4, 16, 64)}
            capacity = rows[64]["requests_per_s"]
            opened = {
                f"{share:.0%} of capacity": open_loop(url, requests, capacity * share, seconds).to_json()
                for share in (0.5, 0.8, 2.0)
            }
            found[f"{tasks} tasks"] = {"clients": rows, "open loop": opened}
        found["memory, MB"] = memory_mb(pid)
    return found


def processes(stores: Sequence[Path], name: str, seconds: float) -> dict[str, Any]:
    """One server for each of eight tasks."""
    given = texts(256)
    with ExitStack() as stack:
        servers = [stack.enter_context(polytask(store, name)) for store in stores]
        loads = [[classify(given[n * BATCH :][:BATCH], "t0") for n in range(8)] for _ in servers]
        own = [closed_loop(url, requests, 4, seconds / 2) for (url, _), requests in zip(servers, loads)]
        one = texts(1)
        together = at_many([url for url, _ in servers], [classify(one, "t0")] * len(servers), int(10 * seconds))
        return {
            "memory, MB": memory_mb(*(pid for _, pid in servers)),
            "one after the other, rows/s": [load.to_json()["rows_per_s"] for load in own],
            "eight tasks on one text": together.to_json(),
        }


def at_many(urls: Sequence[str], requests: Sequence[Request], times: int) -> Load:
    import asyncio

    from serving_load import Connection, _timed

    async def run() -> Load:
        load, connections, start = Load(), [Connection(url) for url in urls], time.perf_counter()
        for _ in range(times):
            own, since = Load(), time.perf_counter()
            await asyncio.gather(*(_timed(c, r, own, since) for c, r in zip(connections, requests)))
            load.latencies.append(time.perf_counter() - since)
            load.rows += own.rows
            load.statuses += own.statuses
        load.seconds = time.perf_counter() - start
        return load

    return asyncio.run(run())


def eight_on_one(stores: dict[str, Path], name: str, times: int) -> dict[str, Any]:
    """Eight classifiers on one text: one request, eight requests at once, for adapters in all layers and in the top."""
    found: dict[str, Any] = {}
    names = [f"t{n}" for n in range(NUM_CLASSIFIERS)]
    for layers, store in stores.items():
        for length in (12, 96):
            text = [" ".join(WORDS[n % len(WORDS)] for n in range(length))]
            with polytask(store, name) as (url, pid):
                whole, parts = [classify(text, names)], [classify(text, task) for task in names]
                for requests in (whole, parts, [parts[0]]):
                    at_once(url, requests, 5)
                found[f"{layers}, {length} words"] = {
                    "one request of eight tasks": at_once(url, whole, times).to_json(),
                    "eight requests at once": at_once(url, parts, times).to_json(),
                    "one request of one task": at_once(url, [parts[0]], times).to_json(),
                    "memory, MB": memory_mb(pid),
                }
    return found


COPIES = """
import json, sys, time, torch, polytask as pt
from polytask.adapters.module import encode_batch
from polytask.data.batches import collate, encode
from polytask.data.task import Rows
name, times = sys.argv[1], int(sys.argv[3])
models = [pt.load_backbone(name) for _ in range(int(sys.argv[2]))]
found = {}
for length in (12, 96):
    rows = Rows([" ".join(sys.argv[4].split()[n % 18] for n in range(length))])
    spent = []
    with torch.inference_mode():
        for _ in range(times):
            start = time.perf_counter()
            batch = collate([(encode(models[0].tokenizer, rows, 128), [0])], 0, models[0].device)
            for model in models:
                with model.one_pass(training=False):
                    encode_batch(model, batch)
            spent.append(1000 * (time.perf_counter() - start))
    spent.sort()
    p50, p99 = spent[len(spent) // 2], spent[int(0.99 * len(spent))]
    found[f"{length} words"] = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}
pss = next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:"))
print(json.dumps({**found, "memory, MB": round(int(pss.split()[1]) / 1024, 1)}))
"""


def merged_copies(name: str, times: int) -> dict[str, Any]:
    """Eight whole models in one process, one after the other on one text, without HTTP."""
    command = [sys.executable, "-c", COPIES, name, str(NUM_CLASSIFIERS), str(times), " ".join(WORDS)]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


# Peers


class Classifier(torch.nn.Module):
    """The backbone, mean pooling and a head: a fine-tuned classifier of the same size."""

    def __init__(self, backbone: pt.Backbone) -> None:
        super().__init__()
        self.model, self.head = backbone.model.float(), torch.nn.Linear(backbone.hidden, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask[..., None].to(hidden.dtype)
        return self.head((hidden * mask).sum(1) / mask.sum(1)).softmax(-1)


def exported(name: str, folder: Path) -> dict[str, Path]:
    """The classifier as ONNX in fp32 and int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    backbone = pt.load_backbone(name, device="cpu", dtype="float32")
    backbone.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    whole, small = folder / "fp32.onnx", folder / "int8.onnx"
    ids = torch.ones(2, 9, dtype=torch.long)
    axes = {axis: {0: "rows", 1: "tokens"} for axis in ("input_ids", "attention_mask")}
    torch.onnx.export(
        Classifier(backbone).eval(), (ids, ids), str(whole), input_names=list(axes), dynamic_axes=axes, dynamo=False
    )
    quantize_dynamic(str(whole), str(small), weight_type=QuantType.QInt8)
    return {"ONNX Runtime fp32": whole, "ONNX Runtime int8": small}


def onnx_peers(name: str, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for peer, model in exported(name, Path(folder)).items():
            port = free_port()
            command = [sys.executable, str(HERE / "peers" / "onnx_server.py"), str(model)]
            command += [f"{folder}/tokenizer.json", str(port), str(torch.get_num_threads())]
            with started(command, lambda log, port=port: listens(port)) as process:
                found[peer] = {**peer_load(f"http://127.0.0.1:{port}", "/classify", "input", seconds)}
                found[peer]["memory, MB"] = memory_mb(process.pid)
    return found


def peer_load(url: str, path: str, field: str, seconds: float, **more: Any) -> dict[str, Any]:
    """Full batches and single texts, as for our own server with one task."""
    given = texts(256)
    batches = [request(path, {field: given[n * BATCH :][:BATCH], **more}, BATCH) for n in range(8)]
    singles = [request(path, {field: [text], **more}, 1) for text in given]
    closed_loop(url, batches, 4, 2.0)
    return {
        "full batches": closed_loop(url, batches, 4, seconds).to_json(),
        "single texts": {c: closed_loop(url, singles, c, seconds).to_json() for c in (1, 16)},
    }


def infinity_peer(python: str, name: str, seconds: float) -> dict[str, Any]:
    """infinity-emb serving a classifier of the same size, with torch."""
    from transformers import BertConfig, BertForSequenceClassification

    backbone = pt.load_backbone(name, device="cpu", dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        settings = {k: v for k, v in backbone.config.to_dict().items() if k not in ("architectures", "dtype")}
        model = BertForSequenceClassification(BertConfig(**settings, num_labels=2))
        model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
        port = free_port()
        command = [str(Path(python).parent / "infinity_emb"), "v2", "--model-id", folder, "--port", str(port)]
        command += ["--device", "cpu", "--engine", "torch", "--no-bettertransformer", "--served-model-name", "peer"]
        with started(command, lambda log: listens(port), HF_HUB_OFFLINE="1", DO_NOT_TRACK="1") as process:
            own = peer_load(f"http://127.0.0.1:{port}", "/classify", "input", seconds, model="peer")
            return {**own, "memory, MB": memory_mb(process.pid)}


def ourselves(store: Path, name: str, seconds: float) -> dict[str, Any]:
    """Our server under the load of the peers: in the fastest type here, and in fp32."""
    found = {}
    for dtype in ("auto", "float32"):
        with polytask(store, name, "--dtype", dtype) as (url, pid):
            own = peer_load(url, "/v1/classify", "input", seconds, model="t0")
            found[f"polytask, {dtype}"] = {**own, "memory, MB": memory_mb(pid)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--infinity", metavar="PYTHON")
    parser.add_argument("--out", type=Path, default=Path("results/serving"))
    parser.add_argument("--only", nargs="*", help="throughput, latency, processes, eight, peers")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are ended, too
    seconds, turns, times = (3.0, 1, 20) if given.quick else (10.0, 3, 100)
    folder = Path(tempfile.mkdtemp())
    backbone, name = pt.load_backbone(given.backbone), given.backbone
    third = max(1, backbone.num_layers // 3)
    try:
        all_layers = store_of(folder / "all", backbone, pt.Houlsby(64), NUM_TASKS)
        top = store_of(folder / "top", backbone, pt.Houlsby(64, layers=third), NUM_CLASSIFIERS)
        single = [store_of(folder / f"one{n}", backbone, pt.Houlsby(64), 1) for n in range(NUM_CLASSIFIERS)]
        parts = {
            "throughput": lambda: throughput(backbone, all_layers, name, seconds, turns),
            "latency": lambda: latency(all_layers, name, seconds),
            "eight": lambda: {
                "one server": eight_on_one({"all layers": all_layers, f"top {third}": top}, name, times),
                "eight merged copies": merged_copies(name, times),
                "eight processes": processes(single, name, seconds),
            },
            "peers": lambda: {
                **ourselves(single[0], name, seconds),
                **onnx_peers(name, seconds),
                **({"infinity-emb": infinity_peer(given.infinity, name, seconds)} if given.infinity else {}),
            },
        }
        found: dict[str, Any] = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
            f"{torch.get_num_threads()} threads, {backbone.dtype}",
            "quick": given.quick,
        }
        for part, measure in parts.items():
            if not given.only or part in given.only:
                found[part] = measure()
                print(json.dumps({part: found[part]}, indent=1), flush=True)
                given.out.mkdir(parents=True, exist_ok=True)
                file = given.out / f"{given.backbone}-{os.cpu_count()}cores.json"
                file.write_text(json.dumps(found, indent=1) + "\n")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
