"""The interchange check in the environment of peft.

python interchange_peft.py save BACKBONES OUT      save adapters of tiny random models, and what they answer
python interchange_peft.py answer BACKBONES CASES  load what Polytask exported; answers.json has what it answers
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from interchange_case import answered, moved, read_cases, run_readme, write_case
from peft import IA3Config, LNTuningConfig, LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SEQ = TaskType.SEQ_CLS
OF_BERT = (
    r".*encoder\.layer\.\d+\."
    r"(attention\.self\.(query|key|value)|attention\.output\.dense|intermediate\.dense|output\.dense)"
)
CASES: dict[str, tuple[str, str, int, Any]] = {
    "lora-bert": ("bert", "classification", 2, LoraConfig(task_type=SEQ, r=4, target_modules=["query", "value"])),
    "lora-roberta-77": (
        *("roberta", "classification", 77),
        LoraConfig(task_type=SEQ, r=4, lora_alpha=8, use_rslora=True, target_modules=OF_BERT),
    ),
    "lora-distilbert-multilabel": (
        *("distilbert", "multilabel", 5),
        LoraConfig(task_type=SEQ, r=2, target_modules=["q_lin", "v_lin", "lin1"]),
    ),
    "lora-electra-regression": (
        *("electra", "regression", 1),
        LoraConfig(task_type=SEQ, r=3, target_modules=["query", "key"]),
    ),
    "lora-mpnet": ("mpnet", "classification", 3, LoraConfig(task_type=SEQ, r=3, target_modules=["q", "o"])),
    "lora-top-layer": (
        *("bert", "classification", 2),
        LoraConfig(task_type=SEQ, r=4, target_modules=["query"], layers_to_transform=[1]),
    ),
    "lora-patterns": (
        *("bert", "classification", 3),
        LoraConfig(
            task_type=SEQ,
            r=4,
            target_modules=["query", "value"],
            rank_pattern={"layer.0.attention.self.query": 2},
            alpha_pattern={"layer.1.attention.self.value": 20},
        ),
    ),
    "lora-pooler-saved": (
        *("bert", "classification", 2),
        LoraConfig(task_type=SEQ, r=4, target_modules=["query"], modules_to_save=["classifier", "pooler"]),
    ),
    "ia3-bert": ("bert", "classification", 2, IA3Config(task_type=SEQ)),
    "ia3-distilbert": (
        *("distilbert", "classification", 2),
        IA3Config(task_type=SEQ, target_modules=["k_lin", "v_lin", "lin2"], feedforward_modules=["lin2"]),
    ),
    "lntuning-bert": ("bert", "classification", 2, LNTuningConfig(task_type=SEQ, target_modules=["LayerNorm"])),
    "refused-dora": (
        *("bert", "classification", 2),
        LoraConfig(task_type=SEQ, use_dora=True, r=2, target_modules=["query"]),
    ),
    "refused-pooler-lora": (
        *("bert", "classification", 2),
        LoraConfig(task_type=SEQ, r=2, target_modules=["query", "dense"]),
    ),
    "refused-ia3-intermediate": (
        *("bert", "classification", 2),
        IA3Config(task_type=SEQ, target_modules=["intermediate.dense"], feedforward_modules=[]),
    ),
}
PROBLEMS = {"multilabel": "multi_label_classification", "regression": "regression"}


def save(backbones: Path, out: Path) -> None:
    for name, (backbone, kind, num_labels, config) in CASES.items():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(
            backbones / backbone, num_labels=num_labels, problem_type=PROBLEMS.get(kind)
        )
        adapted = get_peft_model(model, config)
        moved(parameter for parameter in adapted.parameters() if parameter.requires_grad)
        adapted.peft_config["default"].base_model_name_or_path = f"tiny/{backbone}"
        adapted.save_pretrained(out / name, save_embedding_layers=False)
        (out / name / "README.md").unlink()
        tokenizer = AutoTokenizer.from_pretrained(backbones / backbone)
        write_case(out / name, backbone, kind, answered(adapted, tokenizer, kind))


def answer(backbones: Path, cases: Path) -> None:
    answers = {}
    for name, case in read_cases(cases, "peft").items():
        folder, backbone = cases / name, backbones / case["backbone"]
        if case["style"] == "readme":
            answers[name] = run_readme(folder, backbone)
            continue
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        if case["style"] == "merged":
            model = AutoModelForSequenceClassification.from_pretrained(folder)
        else:
            base = AutoModelForSequenceClassification.from_pretrained(backbone, num_labels=case["num_outputs"])
            model = PeftModel.from_pretrained(base, folder)
        answers[name] = answered(model, tokenizer, case["kind"])
    (cases / "answers-peft.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    {"save": save, "answer": answer}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
