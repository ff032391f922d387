"""Checks import and export with the other libraries themselves, each in its own environment.

    benchmarks/peers/setup.sh .venv-peers
    cd benchmarks
    python -m peers.interchange ../.venv-peers ../results/interchange.json [--record ../tests/recorded/interchange]

What peft and adapters save of tiny random models is imported, and what Polytask exports is loaded by them; for each
case, the largest difference of a probability or the reason of a refusal is written. ``--record`` keeps the files that
they saved, for the test suite.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import polytask
from peers.interchange_backbones import save_backbones
from peers.interchange_case import TEXTS, moved, rows, write_case
from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.errors import PolytaskError
from polytask.inference.predict import MultiTask
from polytask.interchange.exporting import export_adapter
from polytask.interchange.head_layers import head_layers
from polytask.interchange.importing import import_adapter
from polytask.methods import IA3, BitFit, Houlsby, LayerNormOnly, LoRA, Method, Parallel, Pfeiffer

HERE = Path(__file__).parent
LIBRARIES = {"peft": "peft", "adapters": "adapters"}
TANH, RELU, GELU = ("dense", "tanh"), ("dense", "relu"), ("dense", "gelu")
ALL = ("query", "key", "value", "attn_dense", "ffn_up", "ffn_down")

# name: format, the library that reads it, method, architecture, pooling, kind, number of labels, prediction head
EXPORTS: dict[str, tuple[str, str, Method, str, str, str, int, tuple[str, ...]]] = {
    "peft-lora-pooler": ("peft", "peft", LoRA(4), "bert", "pooler", "classification", 2, ()),
    "peft-lora-mean": ("peft", "peft", LoRA(4, linears=ALL), "bert", "mean", "classification", 77, ()),
    "peft-lora-cls": ("peft", "peft", LoRA(4, 3.5, layers=1), "bert", "cls", "multilabel", 5, TANH),
    "peft-lora-roberta": ("peft", "peft", LoRA(2), "roberta", "cls", "regression", 1, TANH),
    "peft-lora-distilbert": ("peft", "peft", LoRA(2), "distilbert", "cls", "classification", 3, RELU),
    "peft-lora-electra": ("peft", "peft", LoRA(2), "electra", "cls", "multilabel", 4, GELU),
    "peft-ia3": ("peft", "peft", IA3(), "bert", "mean", "classification", 2, ()),
    "peft-ia3-whole": ("peft", "peft", IA3(), "mpnet", "cls", "classification", 3, TANH),
    "peft-layernorm": ("peft", "peft", LayerNormOnly(), "roberta", "cls", "classification", 3, TANH),
    "adapterhub-houlsby": ("adapterhub", "adapters", Houlsby(4, norms=False), "bert", "cls", "classification", 2, ()),
    "adapterhub-houlsby-mean": (
        *("adapterhub", "adapters", Houlsby(6, "gelu_tanh", norms=False), "bert", "mean", "classification", 77, ()),
    ),
    "adapterhub-pfeiffer": ("adapterhub", "adapters", Pfeiffer(4), "roberta", "cls", "multilabel", 5, TANH),
    "adapterhub-parallel": ("adapterhub", "adapters", Parallel(4), "distilbert", "cls", "regression", 1, ()),
    "adapterhub-top-layer": (
        "adapterhub",
        "adapters",
        Pfeiffer(4, layers=1),
        "electra",
        "cls",
        "classification",
        2,
        (),
    ),
    "adapterhub-lora": (
        "adapterhub",
        "adapters",
        LoRA(2, 3.0, linears=ALL[:3]),
        "bert",
        "pooler",
        "classification",
        2,
        (),
    ),
    "merged-lora": ("merged", "peft", LoRA(4, linears=ALL), "bert", "pooler", "classification", 3, ()),
    "merged-lora-mean": ("merged", "peft", LoRA(4), "mpnet", "mean", "classification", 3, ()),
    "merged-ia3": ("merged", "peft", IA3(), "roberta", "cls", "multilabel", 4, TANH),
    "merged-bitfit": ("merged", "peft", BitFit(), "distilbert", "cls", "regression", 1, RELU),
    "merged-layernorm": ("merged", "peft", LayerNormOnly(), "electra", "cls", "classification", 77, GELU),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("environments", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    pythons = {name: given.environments.resolve() / name / "bin" / "python" for name in LIBRARIES}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        save_backbones(work / "backbones")
        imports = dict(imported(work, pythons))
        exports = dict(exported(work, pythons))
        if given.record:
            record(work, given.record)
    versions = {name: version(python, name) for name, python in pythons.items()}
    versions |= {"polytask": polytask.__version__, "torch": str(torch.__version__)}
    report = {"versions": versions, "imports": imports, "exports": exports}
    given.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def imported(work: Path, pythons: dict[str, Path]) -> Iterator[tuple[str, Any]]:
    """What each library saves, read by us."""
    for library, python in pythons.items():
        (work / library).mkdir()
        run(python, f"interchange_{library}.py", "save", work / "backbones", work / library)
        for file in sorted((work / library).glob("*/case.json")):
            case = json.loads(file.read_text())
            yield f"{library}/{file.parent.name}", outcome(work, file.parent, case)


def outcome(work: Path, folder: Path, case: dict[str, Any]) -> float | str:
    """The largest difference from the library's answers, or the reason of the refusal."""
    place = work / "backbones" / case["backbone"]
    try:
        adapter = import_adapter(folder, "task", backbone=place, kind=case["kind"], device="cpu", dtype="float32")
    except PolytaskError as error:
        return f"refused: {error}"
    backbone = load_backbone(place, pooling=adapter.header.pooling, device="cpu", dtype="float32")
    return difference(ours(backbone, adapter), case["answers"])


def exported(work: Path, pythons: dict[str, Path]) -> Iterator[tuple[str, Any]]:
    """What we write, read by each library."""
    cases, answers = work / "exports", {}
    for name, (to, library, method, architecture, pooling, kind, num_labels, layers) in EXPORTS.items():
        place = work / "backbones" / architecture
        backbone = load_backbone(place, pooling=pooling, device="cpu", dtype="float32")  # type: ignore[arg-type]
        adapter = random_adapter(backbone, method, kind, num_labels, layers)
        export_adapter(adapter, cases / name, to, backbone=backbone)  # type: ignore[arg-type]
        write_case(cases / name, architecture, kind, None, library=library, style="readme")
        answers[name] = ours(backbone, adapter)
    theirs: dict[str, Any] = {}
    for library, python in pythons.items():
        run(python, f"interchange_{library}.py", "answer", work / "backbones", cases)
        theirs |= json.loads((cases / f"answers-{library}.json").read_text())
    for name, own in answers.items():
        yield name, difference(own, theirs[name])


def random_adapter(backbone: Backbone, method: Method, kind: Any, num_labels: int, layers: tuple[str, ...]) -> Adapter:
    """An adapter that changes the answers, at random."""
    labels = () if kind == "regression" else [f"label {n}" for n in range(num_labels)]
    live = LoadedAdapter(backbone, method, kind, labels, key=(0,), prediction_head=head_layers(layers))
    moved(live.tree.parameters())
    said = {"metric": "accuracy", "score": 0.0, "recipe": {"max_length": 32}, "prediction_head": head_layers(layers)}
    return Adapter.create(
        live.tensors(), task="task", kind=kind, labels=labels, method=method, backbone=backbone, **said
    )


def ours(backbone: Backbone, adapter: Adapter) -> list[list[float]]:
    """What we answer."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.put(adapter)
        predictions = MultiTask(backbone, store).predict(TEXTS, adapter.header.task)
    values = [[p.score] if p.probs is None else list(p.probs.values()) for p in predictions]
    return rows(torch.tensor(values))


def difference(some: list[list[float]], others: list[list[float]]) -> float:
    """The largest of all."""
    return float((torch.tensor(some) - torch.tensor(others)).abs().max())


def run(python: Path, script: str, *arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    subprocess.run([python, HERE / script, *map(str, arguments)], check=True, env=environment, capture_output=True)


def version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version('{package}'), version('transformers'))"
    own, transformers = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return f"{own} with transformers {transformers}"


def record(work: Path, folder: Path) -> None:
    """Keep what the libraries saved, for the test suite."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("backbones", *LIBRARIES):
        shutil.copytree(work / name, folder / name)


if __name__ == "__main__":
    main()
