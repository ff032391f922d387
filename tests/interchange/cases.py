"""Recorded files of other libraries, and functions that answer with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.inference.predict import MultiTask
from polytask.interchange.head_layers import head_layers
from polytask.methods import Method

RECORDED = Path(__file__).parent.parent / "recorded" / "interchange"
"""Made by ``benchmarks/peers/interchange.py --record``: tiny random models, and what the libraries answered."""
TEXTS = ["good film", "the plot was not great at all", "a", "win cash now free prize call you at five", "bad bad film"]


def cases(prefix: str = "") -> list[str]:
    """``peft/lora-bert`` and so on; those that are refused with the prefix ``refused-``."""
    found = sorted(str(file.parent.relative_to(RECORDED)) for file in RECORDED.glob("*/*/case.json"))
    return [case for case in found if case.split("/")[1].startswith("refused-") == bool(prefix)]


def case_of(name: str) -> dict[str, Any]:
    """Its backbone, kind and answers."""
    content: dict[str, Any] = json.loads((RECORDED / name / "case.json").read_text())
    return content


def backbone_of(architecture: str, pooling: Any = None) -> Backbone:
    """A recorded tiny backbone in fp32."""
    return load_backbone(RECORDED / "backbones" / architecture, pooling=pooling, device="cpu", dtype="float32")


def answered(backbone: Backbone, adapter: Adapter, folder: Path) -> torch.Tensor:
    """Probabilities or values of the texts, ``[B, K]``."""
    store = Store(folder / "store")
    name = str(store.put(adapter))
    predictions = MultiTask(backbone, store).predict(TEXTS, name)
    return torch.tensor([[p.score] if p.probs is None else list(p.probs.values()) for p in predictions])


def random_adapter(
    backbone: Backbone, method: Method, kind: Any = "classification", num_labels: int = 2, layers: tuple[str, ...] = ()
) -> Adapter:
    """An adapter that changes the answers, at random."""
    labels = () if kind == "regression" else [f"label {n}" for n in range(num_labels)]
    live = LoadedAdapter(backbone, method, kind, labels, key=(0,), prediction_head=head_layers(layers))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in live.tree.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    said = {"metric": "accuracy", "score": 0.0, "recipe": {"max_length": 32}, "prediction_head": head_layers(layers)}
    own = {"task": "task", "kind": kind, "labels": labels, "method": method, "backbone": backbone}
    return Adapter.create(live.tensors(), **own, **said)


def python_in(readme: Path, backbone: Path | None = None) -> str:
    """The Python of a README, with the backbone where it is."""
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    return code if backbone is None else re.sub(r'^backbone = ".*"$', f'backbone = "{backbone}"', code, flags=re.M)
