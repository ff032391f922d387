"""SQuAD v1.1 as a task, and its official scores. ``data/windows.py`` splits contexts and decodes answers.

Source: Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, arXiv:1606.05250.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from polytask.data.folders import find_file
from polytask.data.splits import hold_out_groups, sample_rows
from polytask.data.squad_json import read_squad, read_with_titles
from polytask.data.task import Rows, Task
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
    """Read SQuAD v1.1 as a task, with some articles of train held out for validation and dev as the test rows.

    Args:
        train: the training file, or the folder of ``train-v1.1.json`` and ``dev-v1.1.json``, gzipped or not.
        dev: the dev file (default: the one in the folder).
        name: the task's name.
        seed: chooses the articles that are held out, and the questions if there is a limit.
        limit: sample this many training questions from all articles, before holding out.
        validation_share: the fraction of questions that is held out, as closely as whole articles allow.

    Raises:
        DataError: a file is missing or not SQuAD.
        RecipeError: the share is not between 0 and 1.
    """
    if Path(train).is_dir():
        found = {part: find_file(Path(train), f"{part}-v1.1.json") for part in ("train", "dev")}
        train, dev = found["train"] or Path(train, "train-v1.1.json"), dev or found["dev"]
    rows, titles = read_with_titles(train, True, None)
    notes: tuple[str, ...] = ()
    if limit is not None and limit < len(rows):
        notes = (f"{name}: {limit:,} of {len(rows):,} training questions, sampled with seed {seed}",)
        picked = sample_rows(len(rows), limit, seed=seed)
        rows, titles = rows.take(picked), [titles[row] for row in picked]
    kept, held_out = hold_out_groups(titles, share=validation_share, seed=seed, most=len(rows))
    test = None if dev is None else read_squad(dev)
    return Task(name, "span", (), "span_f1", rows.take(kept), rows.take(held_out), test, notes)


def normalize_answer(text: str) -> str:
    """Normalize an answer as the official scorer does: lower case; no ASCII punctuation, articles or extra spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return 1.0 if the prediction equals any gold answer after normalization, else 0.0."""
    return float(any(normalize_answer(prediction) == normalize_answer(gold) for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the best F1 of the prediction's words with those of any gold answer.

    As in the official scorer, no shared word gives 0.0, even if both answers are empty after normalization.
    """
    return max(_word_f1(normalize_answer(prediction).split(), normalize_answer(gold).split()) for gold in golds)


def evaluate(predictions: Mapping[str, str], rows: Rows) -> dict[str, float]:
    """Return the official scores in [0, 1], ``{"exact_match": …, "f1": …}``, averaged over all rows.

    As in the official scorer, a question without a prediction scores 0.

    Args:
        predictions: answers by question id.
        rows: the questions with their answers.
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
