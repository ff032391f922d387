"""A submission to the GLUE server, answered by the adapters that were kept."""

from __future__ import annotations

from pathlib import Path

from polytask.adapters.adapter import Adapter
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows, Target
from polytask.errors import DataError
from polytask.inference.scoring import scores_of
from polytask.paper.ledger import Entry, Ledger
from polytask.paper.run import best_adapters
from polytask.paper.worker import adapter_path
from polytask.suites.glue import GLUE, read_submission_rows, write_submission
from polytask.suites.tasks import MISMATCHED

ANSWERED_BY = {MISMATCHED: "MNLI-m", "AX": "MNLI-m"}
"""The task whose adapter answers a task that trains none."""


def submit(
    backbone: Backbone, ledger: Ledger, data: str | Path, folder: str | Path
) -> tuple[list[str], dict[str, str]]:
    """Answer GLUE's test rows with each task's best adapter and write them in the server's format.

    Returns:
        The tasks written, and why each of the others is missing. The server takes a submission of all tasks only.

    Raises:
        WrongBackbone: an adapter was trained on another backbone.
    """
    best = best_adapters(ledger, tuple(GLUE))
    answers: dict[str, list[Target]] = {}
    missing: dict[str, str] = {}
    for name in GLUE:
        entry = best.get(ANSWERED_BY.get(name, name))
        if entry is None:
            missing[name] = "no adapter of it is kept"
            continue
        try:
            rows = read_submission_rows(name, Path(data) / "glue")
        except DataError as error:
            missing[name] = str(error)
            continue
        if len(rows) != GLUE[name].rows[2]:
            missing[name] = f"{len(rows):,} test rows, where GLUE has {GLUE[name].rows[2]:,}"
            continue
        answers[name] = _answers(backbone, ledger, entry, name, rows)
    write_submission(folder, answers)
    return list(answers), missing


def _answers(backbone: Backbone, ledger: Ledger, entry: Entry, name: str, rows: Rows) -> list[Target]:
    adapter = Adapter.load(adapter_path(ledger.folder, entry.key))
    live = LoadedAdapter.from_adapter(backbone, adapter)
    recipe = adapter.header.recipe
    encoded = encode(backbone.tokenizer, rows, min(recipe["max_length"], backbone.max_length), recipe["long"])
    attached = Attached.of(backbone)
    attached.add(name, live.deltas)
    try:
        scores = scores_of(backbone, attached, {name: live}, encoded, [name] * len(rows))
    finally:
        attached.remove(name)
    return [live.head.prediction(row) for row in scores]
