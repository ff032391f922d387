"""Chooses settings by their validation scores, and summarises runs over seeds.

A setting is a recipe without its seed. Validation chooses a setting, test reports. Settings are compared by their mean
validation score over the seeds that all of them were run with, so that an unfinished setting does not win by one lucky
seed. A setting with a diverged seed is never chosen. No test score is read before the choice is made.

Runs are a table with a row for each: ``setting`` (a number), ``seed``, ``diverged``, the scores ``validation`` and
``test`` from 0 to 1 (missing if it diverged), the ``recipe`` (JSON values), and any columns to group by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

import pandas as pd


def choose(runs: pd.DataFrame, *by: str) -> pd.DataFrame:
    """The runs of the setting that validation chose in each group, with the group's number of ``settings``."""
    keys = list(by)
    runs = runs.assign(settings=runs.groupby(keys).setting.transform("nunique"))
    sound = runs[~runs.groupby([*keys, "setting"]).diverged.transform("any").astype(bool)]
    if sound.empty:
        return sound
    count = sound.groupby(keys).setting.transform("nunique")
    is_shared = sound.groupby([*keys, "seed"]).setting.transform("nunique") == count
    has_shared = is_shared.groupby([sound[key] for key in keys]).transform("any")
    means = sound[is_shared | ~has_shared].groupby([*keys, "setting"], sort=False).validation.agg(fmean).reset_index()
    best = means.fillna({"validation": -1.0}).groupby(keys, sort=False).validation.idxmax()
    return sound.merge(means.loc[best, [*keys, "setting"]])


def over_seeds(runs: pd.DataFrame, *by: str, score: str = "test") -> pd.DataFrame:
    """A row for each group of runs, which differ in their seeds.

    Returns:
        ``score`` in per cent as ``mean``, ``sem`` (its standard error; missing for one seed), ``low`` and ``high``,
        the numbers of ``seeds`` with a score and of runs that ``diverged``; other columns are those of the first run.
    """
    keys = list(by)
    groups, scored = runs.groupby(keys, sort=False), runs.dropna(subset=[score]).groupby(keys, sort=False)[score]
    stats = 100 * scored.agg(mean=fmean, sem=_standard_error, low="min", high="max")
    first = groups.first().assign(diverged=groups.diverged.sum(), seeds=scored.size())
    return first.join(stats).fillna({"seeds": 0}).astype({"seeds": int}).reset_index()


def mean_over_tasks(rows: pd.DataFrame, column: str = "score") -> tuple[float, float | None] | None:
    """The mean over tasks, and its standard error, of one method; None if there is no task or a score is missing.

    Args:
        rows: of each task: the score (``column``), its standard error ``sem``, and ``mean_of``; rows with the same
            ``mean_of`` count as one task.
        column: of the score.

    Returns:
        The error treats scores as independent; it is None if one of them has none.
    """
    if rows.empty or rows[column].isna().any():
        return None
    groups = rows.groupby("mean_of", sort=False)
    errors = rows["sem"] / groups[column].transform("size") / groups.ngroups
    return fmean(groups[column].agg(fmean)), None if errors.isna().any() else float((errors**2).sum() ** 0.5)


def sweep(runs: pd.DataFrame, vary: str) -> pd.DataFrame:
    """The runs of one task that differ in ``vary`` (and seeds) alone, in its order; empty if it has one value only.

    Of several such groups: the one with the most values, then the most runs, then the best validation score.
    """

    def rank(own: pd.DataFrame) -> tuple[int, int, float]:
        sound = own[~own.groupby("setting").diverged.transform("any")]
        return own[vary].nunique(), len(own), max(sound.groupby("setting").validation.agg(fmean), default=-1.0)

    runs = runs.dropna(subset=[vary])
    alike = [json.dumps(without(recipe, vary, "seed"), sort_keys=True) for recipe in runs.recipe]
    widest = max((own for _, own in runs.groupby(alike, sort=False)), key=rank, default=runs)
    return widest.sort_values(vary, kind="stable") if widest[vary].nunique() > 1 else widest.iloc[:0]


def without(recipe: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The recipe without these of its own settings and its method's."""
    left = {name: value for name, value in recipe.items() if name not in names}
    return {**left, "method": {name: value for name, value in recipe["method"].items() if name not in names}}


def _standard_error(scores: pd.Series[float]) -> float:
    return stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else float("nan")
