"""The interchange check in the environment of adapters.

python interchange_adapters.py save BACKBONES OUT      save adapters of tiny random models, and what they answer
python interchange_adapters.py answer BACKBONES CASES  load what Polytask exported; answers.json has what it answers
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from interchange_case import answered, moved, read_cases, run_readme, write_case
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import adapters
from adapters import (
    AutoAdapterModel,
    CompacterConfig,
    DoubleSeqBnConfig,
    IA3Config,
    LoRAConfig,
    ParBnConfig,
    PrefixTuningConfig,
    SeqBnConfig,
    SeqBnInvConfig,
)

LABELS = {2: {0: "bad", 1: "good"}}
CASES: dict[str, tuple[str, str, int, Any, dict[str, Any]]] = {
    "houlsby-bert": ("bert", "classification", 2, DoubleSeqBnConfig(reduction_factor=8), {"layers": 1}),
    "houlsby-two-layer-head": ("bert", "classification", 2, DoubleSeqBnConfig(reduction_factor=8), {}),
    "houlsby-pooler-77": (
        *("bert", "classification", 77, DoubleSeqBnConfig(reduction_factor=4, non_linearity="gelu")),
        {"layers": 1, "use_pooler": True},
    ),
    "pfeiffer-roberta-multilabel": (
        *("roberta", "multilabel", 5, SeqBnConfig(reduction_factor=8), {"layers": 2, "activation_function": "relu"}),
    ),
    "pfeiffer-left-out": (
        "electra",
        "classification",
        3,
        SeqBnConfig(reduction_factor=8, leave_out=[0]),
        {"layers": 1},
    ),
    "parallel-distilbert-regression": (
        *("distilbert", "regression", 1, ParBnConfig(reduction_factor=4), {"layers": 1}),
    ),
    "parallel-scaling-2": ("bert", "classification", 2, ParBnConfig(reduction_factor=4, scaling=2.0), {"layers": 1}),
    "lora-bert": (
        *(
            "bert",
            "classification",
            2,
            LoRAConfig(r=4, alpha=8, intermediate_lora=True, output_lora=True),
            {"layers": 1},
        ),
    ),
    "lora-roberta": ("roberta", "classification", 4, LoRAConfig(r=2, alpha=3, attn_matrices=["q", "k"]), {}),
    "ia3-attention-only": ("bert", "classification", 2, IA3Config(intermediate_lora=False), {"layers": 1}),
    "static-head": ("roberta", "classification", 2, SeqBnConfig(reduction_factor=8), {"static": True}),
    "safetensors": ("bert", "classification", 2, SeqBnConfig(reduction_factor=8), {"safetensors": True}),
    "refused-prefix": ("bert", "classification", 2, PrefixTuningConfig(flat=True, prefix_length=2), {"layers": 1}),
    "refused-invertible": ("bert", "classification", 2, SeqBnInvConfig(reduction_factor=8), {"layers": 1}),
    "refused-compacter": ("bert", "classification", 2, CompacterConfig(reduction_factor=8, phm_dim=2), {"layers": 1}),
    "refused-ia3": ("bert", "classification", 2, IA3Config(), {"layers": 1}),
}
PROBLEMS = {"multilabel": "multi_label_classification", "regression": "regression"}


def made(backbone: Path, kind: str, num_labels: int, config: Any, head: dict[str, Any]) -> Any:
    """A model with a random adapter and head called ``task``."""
    head = {k: v for k, v in head.items() if k != "safetensors"}
    if head.pop("static", False):
        model = AutoModelForSequenceClassification.from_pretrained(backbone, num_labels=num_labels)
        adapters.init(model)
        model.add_adapter("task", config=config)
    else:
        model = AutoAdapterModel.from_pretrained(backbone)
        model.add_adapter("task", config=config)
        names = {"id2label": LABELS[num_labels]} if num_labels in LABELS else {}
        model.add_classification_head("task", num_labels=num_labels, multilabel=kind == "multilabel", **head, **names)
    model.train_adapter("task")
    return model


def save(backbones: Path, out: Path) -> None:
    for name, (backbone, kind, num_labels, config, head) in CASES.items():
        torch.manual_seed(0)
        model = made(backbones / backbone, kind, num_labels, config, head)
        moved(parameter for parameter in model.parameters() if parameter.requires_grad)
        folder = out / name
        folder.mkdir(parents=True)
        model.save_adapter(folder, "task", with_head=True, use_safetensors=head.get("safetensors", False))
        for file in folder.glob("*_config.json"):  # the name of the backbone, not its place here
            file.write_text(file.read_text().replace(str(backbones), "tiny"))
        write_case(folder, backbone, kind, answered(model, AutoTokenizer.from_pretrained(backbones / backbone), kind))


def answer(backbones: Path, cases: Path) -> None:
    answers = {}
    for name, case in read_cases(cases, "adapters").items():
        folder, backbone = cases / name, backbones / case["backbone"]
        if case["style"] == "readme":
            answers[name] = run_readme(folder, backbone)
            continue
        model = AutoAdapterModel.from_pretrained(backbone)
        model.load_adapter(str(folder), set_active=True)
        answers[name] = answered(model, AutoTokenizer.from_pretrained(backbone), case["kind"])
    (cases / "answers-adapters.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    {"save": save, "answer": answer}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
