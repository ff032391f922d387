"""Tasks and methods that several exhibits share."""

from __future__ import annotations

from polytask.paper.suites import GLUE_TRAINED
from polytask.suites.glue import GLUE
from polytask.suites.text17 import TEXT17
from polytask.training.recipe import Recipe

ABLATION = "ablation"
ABLATED = {"name": "houlsby", **Recipe.paper().method.settings()}
"""The method whose layers are removed one span after another, with the first seed on each task of that exhibit."""

GLUE_TASKS = tuple(name for name in GLUE_TRAINED if GLUE[name].in_mean)
FIGURE_TASKS = ("CoLA", "MNLI-m")
WHOLE_SUITES = ("table1", "table2", "tradeoff", "squad")
"""Exhibits for which ``--tasks`` may name any task of their suites."""


def official_rows(task: str) -> float:
    """The official number of training rows of a task; infinite if it is unknown."""
    known = GLUE.get(task) or TEXT17.get(task)
    return known.rows[0] if known else float("inf")
