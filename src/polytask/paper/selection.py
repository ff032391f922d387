"""Finished trials as one table, from which all exhibits are made by ``evaluation.model_selection`` and pandas.

A setting is a recipe without its seed, on one task.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.errors import PolytaskError, UnknownName
from polytask.evaluation.model_selection import without
from polytask.methods import Houlsby
from polytask.paper.ledger import Entry, Trial
from polytask.suites.contamination import tasks_seen_by
from polytask.suites.glue import GLUE
from polytask.suites.tasks import MISMATCHED, SUITES
from polytask.suites.text17 import TEXT17
from polytask.wording import listed

ADAPTERS = "adapters"
FAMILIES: Mapping[str, str] = {
    "tfidf": "no BERT",
    "full": "full fine-tuning",
    "top": "top layers",
    "layernorm": "LayerNorms only",
    ADAPTERS: "adapters",
}
"""The methods that the paper compares, in words."""

NUMBERS = ("lr", "init_std", "validation", "test", "mismatched", "accuracy", "matthews")


def runs_of(entries: Iterable[Entry]) -> pd.DataFrame:
    """A row for each trial, tasks in the order of their suites and unknown tasks last.

    Columns are ``suite``, ``task``, ``setting`` (a number), ``seed``, ``method`` (a family), ``is_plain``
    (the paper's adapter, whatever its initialisation), ``size`` (of the bottleneck, or the number of top layers; 0
    without one), settings of the recipe, scores from 0 to 1 (missing if the run diverged), numbers of parameters and
    of rows, the ``recipe`` and the ``entry`` themselves. The index is the order of the entries.
    """
    found: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        key = (_setting(entry.trial), entry.trial.seed)
        if key not in found or entry.trial.measures:
            found[key] = entry
    runs = pd.DataFrame([_row(entry) for entry in found.values()], columns=list(_row(None)))
    order = {name: at for at, name in enumerate((*SUITES, *GLUE, *TEXT17))}
    runs["setting"] = pd.factorize(pd.Series([setting for setting, _ in found], dtype=object))[0]
    flags = dict.fromkeys(("diverged", "is_sample", "is_plain"), bool)
    runs = runs.astype({**dict.fromkeys(NUMBERS, float), "epochs": "Int64", **flags})
    rank = {"suite": order.get, "task": lambda task: order.get(task, len(order)), "setting": int, "seed": int}
    return runs.sort_values(list(rank), key=lambda column: column.map(rank[column.name]), kind="stable")


def _row(entry: Entry | None) -> dict[str, Any]:
    """A row of the table; without an entry, its columns."""
    trial = entry.trial if entry else Trial("", "glue", "", {"method": {"name": ""}, "seed": 0})
    entry = entry or Entry(trial, "", {}, {})
    kind, also, parameters = family(trial.method), entry.also.get(MISMATCHED), Counter(entry.parameters)
    return {
        "suite": trial.suite,
        "task": trial.task,
        "setting": 0,
        "seed": trial.seed,
        "method": kind,
        "is_plain": family({**trial.method, "init_std": Houlsby().init_std}) == ADAPTERS,
        "size": trial.method.get("n" if kind == "top" else "size") or 0,
        "lr": trial.recipe.get("lr"),
        "epochs": trial.recipe.get("epochs"),
        "init_std": trial.method.get("init_std"),
        "max_rows": trial.max_rows,
        "validation": entry.validation and entry.validation.score,
        "test": entry.test and entry.test.score,
        "metric": entry.test and entry.test.metric,
        "mismatched": also and also.score,
        "accuracy": entry.metrics.get("accuracy"),
        "matthews": entry.metrics.get("matthews"),
        "diverged": entry.validation is None or entry.test is None,
        "trained": parameters["trained"],
        "head": parameters["head"],
        "backbone": parameters["backbone"],
        "train_rows": entry.data.get("train", 0),
        "test_rows": entry.test and entry.test.rows,
        "mismatched_rows": also and also.rows,
        "is_sample": bool(entry.data.get("is_sample")),
        "recipe": trial.recipe,
        "entry": entry,
    }


def family(method: Mapping[str, Any]) -> str:
    """``adapters`` for Houlsby's adapter of any size as in the paper, else one of ``FAMILIES`` or ``other``."""
    name = method["name"]
    if name != Houlsby.name:
        return name if name in FAMILIES else "other"
    usual = {**Houlsby().settings(), "name": name}
    changed = {key for key, value in method.items() if key not in usual or usual[key] != value} - {"size", "activation"}
    return "other" if changed or method.get("activation", "gelu") not in ("gelu", "gelu_tanh") else ADAPTERS


def _setting(trial: Trial) -> str:
    what = {**vars(trial), "recipe": without(trial.recipe, "seed"), "edition": "", "measures": ()}
    return json.dumps(what, sort_keys=True)


# -- which entries may stand in one table -----------------------------------------------------------------------------


def seen_by(entries: Iterable[Entry]) -> frozenset[str]:
    """The tasks that the backbone of these entries saw in its own training; empty if nothing is known of it."""
    return tasks_seen_by(str(entry.backbone["name"]) for entry in entries)


def backbone_in_words(entries: Iterable[Entry]) -> str:
    """The backbone's name without its folders; ``no backbone`` if none was used."""
    names = {str(entry.backbone["name"]) for entry in entries if entry.backbone["name"] is not None}
    return listed(sorted(Path(name).name if Path(name).is_absolute() else name for name in names)) or "no backbone"


def of_one_backbone(entries: Sequence[Entry], name: str | None = None) -> list[Entry]:
    """The entries of one backbone, and those without one: scores of two backbones do not stand in one table.

    Raises:
        UnknownName: there are none of this name.
        PolytaskError: there are several backbones and no name was given, or several by the same name.
    """
    names = Counter(entry.backbone["name"] for entry in entries if entry.backbone["name"] is not None)
    if name is not None and name not in names:
        raise UnknownName("backbone in these results", name, names)
    if name is None and len(names) > 1:
        there = ", ".join(f"{known} ({count} entries)" for known, count in names.most_common())
        raise PolytaskError(f"these results are of several backbones: {there}. Choose one with --backbone")
    kept = [entry for entry in entries if name is None or entry.backbone["name"] in (name, None)]
    prints = {entry.backbone["fingerprint"] for entry in kept if entry.backbone["name"] is not None}
    if len(prints) > 1:
        raise PolytaskError(
            f"these results are of {len(prints)} backbones by the name {next(iter(names))}, with different weights. "
            "Keep the results of each backbone in a folder of its own"
        )
    return kept


def on_one_data(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """The entries on the rows that most entries of their task are on, and remarks on those left out.

    A sample of a task and the whole of it are different rows, whose scores are not compared.
    """
    by_task: dict[str, Counter[tuple[Any, ...]]] = defaultdict(Counter)
    for entry in entries:
        by_task[entry.trial.task][_rows(entry)] += 1
    usual = {task: counts.most_common(1)[0][0] for task, counts in by_task.items()}
    kept = [entry for entry in entries if _rows(entry) == usual[entry.trial.task]]
    left_out = {task: counts.total() - counts[usual[task]] for task, counts in by_task.items()}
    remarks = [f"{task}: {n} entries on other rows than the rest are left out" for task, n in left_out.items() if n]
    return kept, remarks


def _rows(entry: Entry) -> tuple[Any, ...]:
    return (entry.trial.max_rows, entry.data.get("digest"))
