"""Variants of the adapter that the authors tried, and later methods, against the plain adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from polytask.drawing.exhibit import Exhibit
from polytask.evaluation.model_selection import choose, over_seeds
from polytask.methods import METHODS
from polytask.paper.selection import ADAPTERS
from polytask.suites.published import SAYS
from polytask.wording import apart, counted


def variant_name(method: Mapping[str, Any]) -> str:
    """``houlsby, activation tanh``: the method and its settings that are not the defaults, sizes aside."""
    name = method["name"]
    defaults = METHODS[name]().settings() if name in METHODS else {}
    changed = {
        key: " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in method.items()
        if key not in ("name", "size", "rank", "alpha") and defaults.get(key, object()) != value
    }
    return ", ".join([name, *(f"{key.replace('_', ' ')} {value}" for key, value in changed.items())])


def extension_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per variant: its mean test score and that of plain adapters of its size on the same tasks.

    Both are of the settings that validation chose.
    """
    others, plain = runs[(runs.method == "other") & ~runs.is_plain], runs[runs.method == ADAPTERS]
    others = others.assign(variant=[variant_name(entry.trial.method) for entry in others.entry])
    ours = over_seeds(choose(others, "variant", "size", "task"), "variant", "size", "task")
    of_any_size = plain.assign(size=0)  # beside variants without a size
    theirs = over_seeds(choose(pd.concat([plain, of_any_size]), "size", "task"), "size", "task")
    both = ours.merge(theirs, on=["size", "task"], suffixes=("", "_of_adapters"))
    pairs = both.groupby(["variant", "size"], sort=False)
    rows = pd.DataFrame(
        {
            "tasks": pairs.size(),
            "score": pairs["mean"].mean(),
            "adapters": pairs.mean_of_adapters.mean(),
            "trained": pairs.trained.first(),
            "settings": pairs.settings.max(),
            "settings_of_adapters": pairs.settings_of_adapters.max(),
        }
    ).reset_index()
    rows["difference"] = rows.score - rows.adapters
    return rows.sort_values("difference", ascending=False, kind="stable")


def extension_reading(rows: pd.DataFrame) -> str:
    """How many variants are better than the plain adapter, and the best of them."""
    if rows.difference.isna().any():
        return "Not all scores are numbers, so nothing compares."
    best, better = rows.iloc[0], (rows.difference > 0.05).sum()
    name = f"{best.variant}, size {best['size']}" if best["size"] else best.variant
    unfair = "" if (rows.settings == rows.settings_of_adapters).all() else " They had unequal numbers of trials."
    return (
        f"{better} of {counted(len(rows), 'variant')} are better than the plain adapter; the best ({name}) is "
        f"{apart(best.difference)} on the mean of {counted(best.tasks, 'task')}.{unfair}"
    )


EXHIBIT = Exhibit(
    "extensions",
    "Extensions of the adapter",
    SAYS["extensions"],
    "the extensions need a variant of the adapter beside the plain one on the same task",
    ("variant", "size", "tasks", "score", "adapters", "difference", "trained", "settings", "settings_of_adapters"),
    extension_rows,
    extension_reading,
)
