"""The cost of a sweep, estimated without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.training.estimate import Estimate, estimate
from polytask.training.grid import varying
from polytask.training.recipe import Recipe


@dataclass(frozen=True)
class SettingCost:
    """The cost of one setting of a sweep.

    Attributes:
        values: the settings that vary in the sweep, with this one's values.
        seeds: the seeds of its runs.
        run: the cost of one run.
    """

    values: dict[str, Any]
    seeds: tuple[int, ...]
    run: Estimate

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; counts, seconds and bytes are those of one run."""
        names = ("steps", "tokens", "seconds", "memory_bytes", "parameters")
        return {"values": self.values, "seeds": list(self.seeds), **{name: getattr(self.run, name) for name in names}}


def sweep_cost(backbone: Backbone, task: Task, recipes: Sequence[Recipe]) -> list[SettingCost]:
    """Estimate what each setting of a sweep would cost. Nothing is written.

    Learning rate and seed do not change the cost, so settings that differ only in these are measured once.

    Args:
        backbone: a frozen backbone.
        task: rows to train on.
        recipes: the runs of the sweep, as ``settled`` returns them.

    Returns:
        One cost for each setting, in the order of ``recipes``.
    """
    names = varying(recipes)
    estimates: dict[Recipe, Estimate] = {}
    seeds: dict[Recipe, list[int]] = {}
    for recipe in recipes:
        seeds.setdefault(replace(recipe, seed=0), []).append(recipe.seed)
        if (key := _cost_key(recipe)) not in estimates:
            estimates[key] = estimate(backbone, task, recipe)
    return [
        SettingCost({name: setting.settings().get(name) for name in names}, tuple(own), estimates[_cost_key(setting)])
        for setting, own in seeds.items()
    ]


def _cost_key(recipe: Recipe) -> Recipe:
    """The recipe without what does not change its cost."""
    return replace(recipe, seed=0, lr=None)
