"""The tiny random backbones of the interchange check, and of the recorded files of the test suite."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from tests.tiny import save_tiny

ARCHITECTURES = ("bert", "roberta", "distilbert", "electra", "mpnet")


def save_backbones(folder: Path) -> None:
    for architecture in ARCHITECTURES:
        made = save_tiny(folder / architecture, architecture)
        amplify(made / "model.safetensors")
        settings = json.loads((made / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # a name that transformers 4 knows, too
        (made / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def amplify(file: Path, by: float = 8.0) -> None:
    """Scale the matrices up to those of a trained model; with initial weights, adapters hardly change the answers."""
    tensors = load_file(file)
    larger = {name for name, tensor in tensors.items() if tensor.dim() == 2 and "embedding" not in name}
    save_file({name: by * t if name in larger else t for name, t in tensors.items()}, file, {"format": "pt"})


if __name__ == "__main__":
    save_backbones(Path(sys.argv[1]))
