"""What lies in ``tests/recorded/2026-11``: a store, a checkpoint and a ledger as commit b61ad26 wrote them.

Made once, with the code of that commit, and never again: what is stored anywhere must stay readable for ever. In a
checkout of that commit with this file beside its tests::

    python -m tests.recording tests/recorded/2026-11

``backbone`` is a BERT of two layers, 8 wide, with random weights, ``tasks`` is CoLA in miniature, made up here. All
paths are relative to the folder, so that nothing tells of the machine.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from polytask.adapters.store import Store
from polytask.backbones.loading import load_backbone
from polytask.data.read import read_task
from polytask.inference.predict import MultiTask
from polytask.methods import METHODS, Houlsby
from polytask.paper.ledger import Entry, Ledger, Trial
from polytask.paper.measurements import identity
from polytask.paper.worker import loaded, rows_of, work
from polytask.training.checkpoint import Checkpoint
from polytask.training.job import Job
from polytask.training.loop import run_jobs, train
from polytask.training.recipe import Recipe
from tests.conftest import BAD, GOOD
from tests.tiny import save_tiny

FOLDER = Path(__file__).parent / "recorded" / "2026-11"
TEXTS = ["a good plot", "an awful game", "they vote tomorrow"]
RECIPE = Recipe(Houlsby(2, layers=1), lr=5e-2, epochs=8, batch_size=8, max_length=32)
STEPS = 7
"""How far the run of the checkpoint got."""


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chdir(folder)
    torch.set_num_threads(1)
    save_tiny(Path("backbone"), hidden_size=8, num_attention_heads=2, intermediate_size=12, max_position_embeddings=32)
    rows = [(text, label) for label, texts in ((1, GOOD), (0, BAD)) for text in texts for _ in range(2)]
    Path("tasks/glue/CoLA").mkdir(parents=True)
    for split, own in (("train", rows), ("dev", rows[::2])):
        lines = [f"gj04\t{label}\t\t{text}\n" for text, label in own]
        Path(f"tasks/glue/CoLA/{split}.tsv").write_text("".join(lines), encoding="utf-8")
    for name, header in (("mood", "text,label"), ("both", "premise,hypothesis,label")):
        lines = [f"{text},{text if name == 'both' else ''},{('bad', 'good')[label]}" for text, label in rows]
        content = "\n".join([header, *(line.replace(",,", ",") for line in lines)]) + "\n"
        Path(f"tasks/{name}.csv").write_text(content, encoding="utf-8")
    backbone = load_backbone("backbone", device="cpu", dtype="float32", pooling="mean")
    store, answers = Store("store"), {}
    for name in ("mood", "both"):
        store.put(train(backbone, read_task(f"tasks/{name}.csv"), RECIPE)[0])
        texts = TEXTS if name == "mood" else [(text, text) for text in TEXTS]
        answers[name] = [dict(answer.probs or {}) for answer in MultiTask(backbone, store).predict(texts, name)]
    job = Job(backbone, read_task("tasks/mood.csv"), RECIPE)
    for _ in itertools.islice(run_jobs(backbone, [job]), STEPS + 2):  # two epochs were scored on the way
        pass
    assert job.step == STEPS
    Checkpoint("run.ckpt").write(backbone, [job])
    plain = load_backbone("backbone", device="cpu", dtype="float32")
    trial = Trial("cpu", "glue", "CoLA", replace(RECIPE, method=Houlsby(2)).to_json(), 20, max_test=8)
    key = trial.key(identity(plain), loaded(rows_of(trial), "tasks").task.digest)
    pack = {"trials": {key: json.loads(json.dumps(trial.__dict__))}, "folder": "ledger/cpu", "data": "tasks"}
    pack |= {"backbone": "backbone", "device": "cpu", "dtype": "float32", "share": 1.0, "adapters": False}
    for message in work(pack):
        if message["what"] == "entry":
            Ledger("ledger", "cpu").write(Entry.from_json(message["entry"]))
    keys = {name: Recipe(method(), lr=1e-3, epochs=3).key for name, method in METHODS.items()}
    keys |= {"paper": Recipe.paper().key}
    digests = {name: store.entry(name).digest for name in ("mood", "both")}
    facts = {"answers": answers, "digests": digests, "recipe_keys": keys, "fingerprint": backbone.fingerprint}
    facts["tokenizer"] = backbone.tokenizer_fingerprint
    Path("facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
