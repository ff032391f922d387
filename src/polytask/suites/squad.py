"""SQuAD v1.1: questions answered by a span of a paragraph, and its official scores.

A paragraph longer than the window is read through several overlapping windows. Everything outside
this file speaks of characters of the original paragraph and everything a model sees of token
positions in one window; the offsets in ``Window`` are the only bridge. There is no model here: logits
come in as arrays.

Decoding scores every valid span of a window instead of pairing the best starts with the best ends, so
the best valid span is never missed.

Rajpurkar et al.: SQuAD, 100,000+ questions for machine comprehension of text, arXiv:1606.05250.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.data.folders import find_file
from polytask.data.splits import drawn, hold_out_groups
from polytask.data.task import Rows, Task

if TYPE_CHECKING:
    pass
from polytask.data.squad_json import read_squad, read_with_titles
from polytask.data.windows import row_id


def squad_task(
    train: str | PathLike[str],
    dev: str | PathLike[str] | None = None,
    *,
    name: str = "squad",
    seed: int = 0,
    limit: int | None = None,
    validation_share: float = 0.1,
) -> Task:
    """SQuAD v1.1 as a task: train's articles to train on and, a seeded tenth of them, to validate on; dev to test on.

    Args:
        train: the training file, or the folder of ``train-v1.1.json`` and ``dev-v1.1.json``, gzipped or not.
        dev: the file of dev; by default the one in the folder.
        name: the task's.
        seed: chooses the articles that are held out, and the questions where there is a limit.
        limit: so many of train's questions, drawn from all articles before some of these are held out.
        validation_share: the part of the questions that is held out, as far as whole articles allow.

    Raises:
        DataError: a file is not there or not SQuAD.
        RecipeError: the share is not between 0 and 1.
    """
    if Path(train).is_dir():
        found = {part: find_file(Path(train), f"{part}-v1.1.json") for part in ("train", "dev")}
        train, dev = found["train"] or Path(train, "train-v1.1.json"), dev or found["dev"]
    rows, titles = read_with_titles(train, True, None)
    notes: tuple[str, ...] = ()
    if limit is not None and limit < len(rows):
        notes = (f"{name}: {limit:,} of {len(rows):,} training questions, drawn with seed {seed}",)
        picked = drawn(len(rows), limit, seed=seed)
        rows, titles = rows.take(picked), [titles[row] for row in picked]
    kept, held_out = hold_out_groups(titles, share=validation_share, seed=seed, most=len(rows))
    test = None if dev is None else read_squad(dev)
    return Task(name, "span", (), "span_f1", rows.take(kept), rows.take(held_out), test, notes)


def normalised(text: str) -> str:
    """What the official scorer compares: lower case, without ASCII punctuation, articles and extra spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 if the prediction equals any gold answer after normalisation, else 0.0."""
    return float(any(normalised(prediction) == normalised(gold) for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """The best F1 over the words shared with a gold answer.

    As in the official scorer, no shared word is 0.0, even for two answers of which normalisation
    leaves nothing.
    """
    return max(_word_f1(normalised(prediction).split(), normalised(gold).split()) for gold in golds)


def evaluate(predictions: Mapping[str, str], rows: Rows) -> dict[str, float]:
    """The official scores in [0, 1]: ``{"exact_match": …, "f1": …}``, means over all rows.

    As in the official scorer, a question without a prediction scores 0.
    """
    assert rows.targets is not None, "rows without answers cannot be scored"
    exact, overlap = 0.0, 0.0
    for row, answers in enumerate(rows.targets):
        prediction = predictions.get(row_id(rows, row))
        if prediction is not None:
            golds = [answer.text for answer in answers]
            exact += exact_match(prediction, golds)
            overlap += f1(prediction, golds)
    return {"exact_match": exact / len(rows), "f1": overlap / len(rows)}


def _word_f1(prediction: list[str], gold: list[str]) -> float:
    shared = sum((Counter(prediction) & Counter(gold)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
