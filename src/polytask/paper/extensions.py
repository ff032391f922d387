"""What the authors tried beside the plain adapter, and the methods that came after it, against the plain adapter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from polytask.methods import METHODS, Houlsby
from polytask.paper.ledger import Entry
from polytask.paper.selection import ADAPTERS, NothingToShow, Setting, choose, settings
from polytask.paper.size_curve import Row
from polytask.paper.wording import apart, number_of

IN_PAPER = (
    "No gain from batch or layer normalisation inside the adapter, more layers in it, tanh instead of GELU, adapters "
    "after attention only, or adapters beside the sub-layers."
)


def variant(method: Mapping[str, Any]) -> str:
    """``houlsby, activation tanh``: the name, and what is not as in its class, sizes aside."""
    name = method["name"]
    usual = METHODS[name]().settings() if name in METHODS else {}
    apart_from_it = {
        key: value
        for key, value in method.items()
        if key not in ("name", "size", "rank", "alpha") and usual.get(key, object()) != value
    }
    return ", ".join([name, *(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in apart_from_it.items())])


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"


def rows(entries: Sequence[Entry]) -> list[Row]:
    """One line a variant: the mean test score over the tasks that it and plain adapters of its size were run on, each
    with the setting that validation chose, beside that of plain adapters.

    Raises:
        NothingToShow: there is no variant with a plain adapter to compare it with.
    """
    found = settings(entries)
    variants: dict[tuple[str, int | None], dict[str, list[Setting]]] = defaultdict(lambda: defaultdict(list))
    for setting in found:
        if setting.family == "other" and not _is_initialisation(setting):
            variants[variant(setting.method), setting.size][setting.task].append(setting)
    lines = []
    for (name, size), by_task in variants.items():
        pairs = []
        for task, own in by_task.items():
            plain = [s for s in found if s.task == task and s.family == ADAPTERS and size in (None, s.size)]
            choices = choose(own), choose(plain)
            if choices[0] and choices[1]:
                pairs.append((choices[0], choices[1]))
        if pairs:
            ours, plains = (fmean(_score(pair[side].setting) for pair in pairs) for side in (0, 1))
            line = {"variant": name, "size": size, "tasks": len(pairs), "score": ours, "adapters": plains}
            line |= {"difference": ours - plains, "trained": pairs[0][0].setting.num_trained_below}
            line |= {"settings": max(pair[0].num_settings for pair in pairs)}
            lines.append({**line, "settings_of_adapters": max(pair[1].num_settings for pair in pairs)})
    if not lines:
        raise NothingToShow("the extensions need a variant of the adapter beside the plain one on the same task")
    return sorted(lines, key=lambda line: -line["difference"])


def _is_initialisation(setting: Setting) -> bool:
    """Differs from the plain adapter in where it starts alone, which is another exhibit's."""
    method = {**setting.method, "init_std": Houlsby().init_std}
    return setting.method["name"] == Houlsby.name and variant(method) in (Houlsby.name, "houlsby, activation gelu_tanh")


def _score(setting: Setting) -> float:
    score = setting.test()
    assert score is not None, "what was chosen has a score"
    return 100 * score.mean


def reading(entries: Sequence[Entry]) -> str:
    """The best of them."""
    lines = rows(entries)
    best = lines[0]
    if any(math.isnan(line["difference"]) for line in lines):
        return "Not all scores are numbers, so nothing compares."
    better = sum(line["difference"] > 0.05 for line in lines)
    name = best["variant"] if best["size"] is None else f"{best['variant']}, size {best['size']}"
    is_fair = all(line["settings"] == line["settings_of_adapters"] for line in lines)
    unfair = "" if is_fair else " They had unequal numbers of trials."
    return (
        f"{better} of {number_of(len(lines), 'variant')} are better than the plain adapter; the best ({name}) is "
        f"{apart(best['difference'])} on the mean of {number_of(best['tasks'], 'task')}.{unfair}"
    )
