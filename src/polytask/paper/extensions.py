"""Variants of the adapter that the authors tried, and later methods, against the plain adapter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from polytask.methods import METHODS, Houlsby
from polytask.paper.exhibit import Entries, Exhibit, Rows
from polytask.paper.selection import ADAPTERS, Choice, NothingToShow, Setting, choose, settings
from polytask.paper.wording import apart, number_of


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


def extension_rows(entries: Entries) -> Rows:
    """One row per variant: its mean test score and that of plain adapters of its size on the same tasks.

    Both are of the settings that validation chose.
    """
    found = settings(entries)
    groups: dict[tuple[str, int | None, str], list[Setting]] = defaultdict(list)
    for setting in found:
        if setting.family == "other" and not _differs_in_initialisation_only(setting):
            groups[variant_name(setting.method), setting.size, setting.task].append(setting)
    pairs: dict[tuple[str, int | None], list[tuple[Choice, Choice]]] = defaultdict(list)
    for (name, size, task), own in groups.items():
        plain = [s for s in found if s.task == task and s.family == ADAPTERS and size in (None, s.size)]
        if (ours := choose(own)) and (theirs := choose(plain)):
            pairs[name, size].append((ours, theirs))
    if not pairs:
        raise NothingToShow("the extensions need a variant of the adapter beside the plain one on the same task")
    return sorted((_row(*variant, own) for variant, own in pairs.items()), key=lambda row: -row["difference"])


def _row(name: str, size: int | None, pairs: Sequence[tuple[Choice, Choice]]) -> dict[str, Any]:
    ours, plain = zip(*pairs, strict=True)
    score, plain_score = (fmean(choice.score.percent.mean for choice in choices) for choices in (ours, plain))
    return {
        "variant": name,
        "size": size,
        "tasks": len(pairs),
        "score": score,
        "adapters": plain_score,
        "difference": score - plain_score,
        "trained": ours[0].setting.parameters["trained"],
        "settings": max(choice.num_settings for choice in ours),
        "settings_of_adapters": max(choice.num_settings for choice in plain),
    }


def _differs_in_initialisation_only(setting: Setting) -> bool:
    """These belong to another exhibit."""
    method = {**setting.method, "init_std": Houlsby().init_std}
    return variant_name(method) in (Houlsby.name, "houlsby, activation gelu_tanh")


def extension_reading(entries: Entries) -> str:
    """How many variants are better than the plain adapter, and the best of them."""
    rows = extension_rows(entries)
    best = rows[0]
    if any(math.isnan(row["difference"]) for row in rows):
        return "Not all scores are numbers, so nothing compares."
    better = sum(row["difference"] > 0.05 for row in rows)
    name = best["variant"] if best["size"] is None else f"{best['variant']}, size {best['size']}"
    is_fair = all(row["settings"] == row["settings_of_adapters"] for row in rows)
    unfair = "" if is_fair else " They had unequal numbers of trials."
    return (
        f"{better} of {number_of(len(rows), 'variant')} are better than the plain adapter; the best ({name}) is "
        f"{apart(best['difference'])} on the mean of {number_of(best['tasks'], 'task')}.{unfair}"
    )


EXHIBIT = Exhibit(
    "extensions",
    "Extensions of the adapter",
    "No gain from batch or layer normalisation inside the adapter, more layers in it, tanh instead of GELU, adapters "
    "after attention only, or adapters beside the sub-layers.",
    extension_rows,
    extension_reading,
)
