"""Shared code of the interchange checks. Runs in a peer's environment: torch and the standard library.

A case is a folder with the files of one adapter and ``case.json``: the backbone's folder, the kind of task, and what
the library that saved it answers to ``TEXTS``, as probabilities or values, ``[B, K]``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

TEXTS = ["good film", "the plot was not great at all", "a", "win cash now free prize call you at five", "bad bad film"]
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "classification": lambda logits: logits.softmax(dim=-1),
    "multilabel": lambda logits: logits.sigmoid(),
    "regression": lambda logits: logits,
}


def moved(parameters: Iterable[nn.Parameter], seed: int = 1, by: float = 0.2) -> None:
    """Change the trained parameters at random; an untrained adapter changes nothing and would prove nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))


@torch.inference_mode()
def answered(model: nn.Module, tokenizer: Any, kind: str) -> list[list[float]]:
    """What a model with a head says of the texts."""
    logits = model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    return rows(SCORES[kind](logits))


def rows(scores: Tensor) -> list[list[float]]:
    """As lists, nine digits each."""
    return [[float(f"{value:.9g}") for value in row] for row in scores.tolist()]


def write_case(folder: Path, backbone: str, kind: str, answers: list[list[float]] | None, **more: object) -> None:
    """Write the ``case.json`` of a folder."""
    case = {"backbone": backbone, "kind": kind, "answers": answers, **more}
    (folder / "case.json").write_text(json.dumps(case) + "\n")


def read_cases(folder: Path, library: str) -> dict[str, dict[str, Any]]:
    """The cases in a folder that this library is to read, by name."""
    found = {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("*/case.json"))}
    return {name: case for name, case in found.items() if case["library"] == library}


def run_readme(folder: Path, backbone: Path) -> list[list[float]]:
    """What the Python in a folder's README answers, run in that folder with the backbone where it is here."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(re.sub(r'^backbone = ".*"$', f'backbone = "{backbone}"', code, flags=re.MULTILINE), names)
    finally:
        os.chdir(before)
    return rows(names["answer"](TEXTS))
