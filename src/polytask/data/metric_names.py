"""The names of the metrics and the kinds of task they fit; ``evaluation/metrics.py`` computes them."""

from __future__ import annotations

from polytask.data.task import Kind
from polytask.errors import RecipeError, UnknownName

METRIC_KINDS: dict[str, tuple[Kind, ...]] = {
    "accuracy": ("classification",),
    "f1": ("classification",),
    "matthews": ("classification",),
    "micro_f1": ("multilabel", "classification"),
    "macro_f1": ("multilabel", "classification"),
    "pearson": ("regression",),
    "spearman": ("regression",),
    "span_f1": ("span",),
    "exact_match": ("span",),
}
"""The kinds of task that each metric fits. The first metric that fits a kind is the default for it."""


def metrics_for(kind: Kind) -> list[str]:
    """Return the names of the metrics that fit this kind of task, the default first."""
    return [name for name, kinds in METRIC_KINDS.items() if kind in kinds]


def default_metric(kind: Kind) -> str:
    """Return the default metric of a kind: ``accuracy``, ``micro_f1``, ``pearson`` or ``span_f1``."""
    names = metrics_for(kind)
    assert names, f"no metric for tasks of kind {kind}"
    return names[0]


def check_metric(name: str, kind: Kind) -> str:
    """Return ``name`` if this metric exists and fits this kind of task.

    Raises:
        UnknownName: there is no such metric.
        RecipeError: the metric is for tasks of another kind.
    """
    if name not in METRIC_KINDS:
        raise UnknownName("metric", name, METRIC_KINDS)
    if kind not in METRIC_KINDS[name]:
        raise RecipeError(
            f"the metric {name!r} is for {' and '.join(METRIC_KINDS[name])} tasks, and this is a {kind} task. "
            f"Its metrics are: {', '.join(metrics_for(kind))}"
        )
    return name
