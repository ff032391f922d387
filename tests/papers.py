"""The paper in miniature: tasks in the official layout, an edition of a few trials, and processes that run it.

``python -m tests.papers FOLDER`` runs the edition to its end and prints, for each trial that began, a line.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from polytask.backbones.backbone import Backbone
from polytask.launch import local
from polytask.paper.edition import Edition, Plan, Unit, all_trials
from polytask.paper.ledger import Ledger, Trial
from polytask.paper.run import Place, keyed, run
from tests.conftest import BAD, GOOD
from tests.data.test_spans import questions

ADAPTERS = Unit("houlsby", (("size", (64, 2)), ("lr", (1e-2, 3e-3)), ("epochs", (2,)), ("batch_size", (8,))))
FULL = Unit("full", (("lr", (1e-3, 1e-4)), ("epochs", (2,)), ("batch_size", (8,))), (("warmup", (0.1, 0.0)),))
TOP = Unit("top", (("n", (1, 2, 3)), ("lr", (1e-3, 1e-4)), ("epochs", (2,)), ("batch_size", (8,))))
WORDS = Unit("tfidf", (("C", (10.0, 1.0)), ("ngrams", (2, 1))))

TINY = Edition(
    "tiny",
    (
        Plan("table1", ("CoLA",), (ADAPTERS, FULL), settings=2, seeds=2, least_units=2),
        Plan("table2", ("sms_spam",), (ADAPTERS, FULL, TOP, WORDS), settings=2, seeds=2, least_units=4),
        Plan("ablation", ("CoLA",), (ADAPTERS,), settings=2, seeds=1, least_units=1),
    ),
    max_rows=24,
    max_test=10,
    max_length=32,
    span_length=32,
).on(2)


def write_data(folder: Path) -> Path:
    """CoLA and SMS spam, sorted by label, as files often are."""
    labelled = [(text, label) for label, texts in ((1, GOOD), (0, BAD)) for text in texts for _ in range(4)]
    cola, spam = folder / "glue" / "CoLA", folder / "text17" / "sms_spam"
    for place in (cola, spam):
        place.mkdir(parents=True)
    for split, rows in (("train", labelled), ("dev", labelled[::4])):
        lines = [f"gj04\t{label}\t\t{text}\n" for text, label in rows]
        (cola / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
    for split, rows in (("train", labelled), ("validation", labelled[::4]), ("test", labelled[1::4])):
        with open(spam / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *((text, ("ham", "spam")[label]) for text, label in rows)])
    return folder


def squad_json() -> str:
    """Five articles of one paragraph and five questions, in SQuAD's form."""
    rows = questions()
    by_context: dict[str, list[dict[str, Any]]] = {}
    for at, (question, context, answers) in enumerate(zip(rows.texts, rows.pairs or (), rows.targets or ())):
        given = [{"text": answer.text, "answer_start": answer.start} for answer in answers]
        by_context.setdefault(context, []).append({"id": str(at), "question": question, "answers": given})
    articles = [{"title": c[:9], "paragraphs": [{"context": c, "qas": qas}]} for c, qas in by_context.items()]
    return json.dumps({"data": articles})


def write_squad(folder: Path) -> Path:
    """SQuAD's two files."""
    (folder / "squad").mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / "squad" / f"{split}-v1.1.json").write_text(squad_json(), encoding="utf-8")
    return folder


def place_of(folder: Path, **given: Any) -> Place:
    settings: dict[str, Any] = {"results": str(folder / "results"), "backbone": str(folder / "backbone"), "jobs": 3}
    return Place(**{**settings, "data": str(folder / "data"), **given})


def ledger_of(folder: Path, edition: Edition = TINY) -> Ledger:
    return Ledger(folder / "results", edition.name)


def keys_of(backbone: Backbone, folder: Path, edition: Edition = TINY) -> dict[str, Trial]:
    return keyed(all_trials(edition), backbone, str(folder / "data"))


def run_all(backbone: Backbone, folder: Path, edition: Edition = TINY, **given: Any) -> Iterator[dict[str, Any]]:
    """The messages of a run in this process."""
    trials = keys_of(backbone, folder, edition)
    return run(edition, trials, place_of(folder, **given), local.run_packs)


def main(folder: Path) -> None:
    from polytask.backbones.loading import load_backbone

    torch.set_num_threads(1)
    backbone = load_backbone(folder / "backbone", device="cpu", dtype="float32")
    for message in run_all(backbone, folder):
        if message["what"] == "started":
            print(*message["keys"], sep="\n", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
