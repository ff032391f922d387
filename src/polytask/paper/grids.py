"""Tasks, sizes and learning rates that the exhibits share."""

from __future__ import annotations

from polytask.paper.suites import GLUE_TRAINED
from polytask.suites.glue import GLUE
from polytask.suites.text17 import TEXT17
from polytask.training.recipe import Recipe

ABLATION = "ablation"
ABLATED = {"name": "houlsby", **Recipe.paper().method.settings()}
"""The method whose layers are removed one span after another, wherever it is trained on a task of that exhibit with
the first seed: one heat map a setting, at the price of as many passes over the test rows as there are spans."""

GLUE_TASKS = tuple(name for name in GLUE_TRAINED if GLUE[name].in_mean)
FIGURE_TASKS = ("CoLA", "MNLI-m")


def _published_rows(task: str) -> float:
    """The training rows that a task officially has; no end of them where that is not known."""
    return (GLUE[task] if task in GLUE else TEXT17[task]).rows[0] if task in GLUE or task in TEXT17 else float("inf")


# -- the grids --------------------------------------------------------------------------------------------------------

WHOLE_SUITES = ("table1", "table2", "tradeoff", "squad")
"""Exhibits of which ``--tasks`` may name any task of their suites."""
