"""Digests of fourteen trainings, fingerprints and answers: a change of structure must leave every line as it was.

python benchmarks/digests.py > after.json    # before and after the change, on one machine, and compare
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import polytask as pt

METHODS = (pt.Houlsby(8), pt.Pfeiffer(8), pt.Parallel(8), pt.LoRA(4), pt.IA3(), pt.BitFit(), pt.LayerNormOnly())
TEXTS = [
    (f"{adjective} {kind} film number {number}", label)
    for number in range(6)
    for adjective, label in (("a tender funny", "good"), ("a dull lifeless", "bad"))
    for kind in ("quiet", "long", "small")
]


def digests(folder: Path, dtype: str) -> dict[str, Any]:
    """What training and answering in one precision come to."""
    (folder / "mood.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in TEXTS))
    task = pt.read_task(folder / "mood.csv", name="mood")
    backbone = pt.load_backbone("minilm", dtype=dtype, device="cpu")
    store = pt.Store(folder / dtype)
    found: dict[str, Any] = {"fingerprints": [backbone.fingerprint, backbone.tokenizer_fingerprint]}
    for method in METHODS:
        adapter, result = pt.train(backbone, task, pt.Recipe(method, epochs=2, max_length=32))
        store.put(adapter)
        found[method.name] = {"digest": adapter.tensor_digest, "score": result.validation.score}
    answers = [pt.MultiTask(backbone, store).predict([text for text, _ in TEXTS[:6]], f"mood@{n}") for n in (1, 4)]
    found["answers"] = [[answer.to_json() for answer in batch] for batch in answers]
    return found


def main() -> None:
    """Print them as JSON."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({dtype: digests(Path(folder), dtype) for dtype in ("float32", "bfloat16")}, indent=1))


if __name__ == "__main__":
    main()
