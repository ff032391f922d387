"""None of these: detects texts that have none of a classifier's labels (out-of-distribution detection).

A text gets no label if its familiarity (``polytask.evaluation.detectors``) is below a threshold. The threshold is an
order statistic of the validation rows, chosen so that on average at most a share ``false_alarm`` of similar new rows is
below it. No examples of such texts are needed. Detectors are imported when they are used: clients need no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from polytask.data.task import Kind, Rows, Task
from polytask.errors import AdapterError, DataError, RecipeError
from polytask.evaluation.reliability import share

if TYPE_CHECKING:
    from torch import Tensor

    from polytask.evaluation.detectors import Tensors

FALSE_ALARM = 0.05
MARGIN = 1e-3


@dataclass(frozen=True)
class DetectNone:
    """A request for a detector.

    Attributes:
        false_alarm: the share of texts with one of the labels that may wrongly get none.
        label: a label of the task that means "none of the others". Its rows are used to choose and fit the detector,
            not to train the adapter.
        examples: these rows, by split; set by ``taken_out_of``.

    Raises:
        RecipeError: the share is not between 0 and 1.
    """

    false_alarm: float = FALSE_ALARM
    label: str | None = None
    examples: Mapping[str, Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm < 1:
            wrong = f"false_alarm={self.false_alarm!r} is out of range"
            raise RecipeError(f"{wrong}. Give the share of texts with a label that may get none, such as 0.05")

    def check(self, kind: Kind) -> None:
        """Refuse any task but a classification.

        Raises:
            RecipeError: it has another kind.
        """
        if kind != "classification":
            raise RecipeError(f"'none of these' is for classification; this task is {kind}")

    def taken_out_of(self, task: Task) -> tuple[Task, DetectNone]:
        """The task without the rows of ``label``, and the same request with these rows.

        Raises:
            DataError: the task has no such label.
        """
        self.check(task.kind)
        if self.label is None or self.examples:
            return task, self
        if self.label not in task.labels:
            known = ", ".join(task.labels[:10])
            raise DataError(f"no row has the label {self.label!r} of 'none of these'", fix=f"There are: {known}")
        index = task.labels.index(self.label)
        splits = {"train": task.train, "validation": task.validation, "test": task.test}
        parts = {name: split_off(rows, index) for name, rows in splits.items() if rows is not None}
        kept: dict[str, Any] = {name: rest for name, (rest, _) in parts.items()}
        labels = tuple(label for label in task.labels if label != self.label)
        if len(labels) < 2:
            fix = "A classifier needs rows of two other labels"
            raise DataError(f"without the rows of {self.label!r} one label is left", fix=fix)
        for name, (rest, _) in parts.items():
            if not len(rest):
                raise DataError(f"all {name} rows have the label {self.label!r} of 'none of these'", fix="Add others")
        examples = {name: taken for name, (_, taken) in parts.items() if len(taken)}
        return replace(task, labels=labels, **kept), replace(self, examples=examples)


def split_off(rows: Rows, index: int) -> tuple[Rows, Rows]:
    """Split off the rows with a label, and renumber the targets of the others as if it did not exist."""
    targets = list(rows.targets or ())
    rest = rows.take([row for row, target in enumerate(targets) if target != index])
    moved = [int(target) - (int(target) > index) for target in rest.targets or ()]
    taken = rows.take([row for row, target in enumerate(targets) if target == index])
    return replace(rest, targets=moved if rows.targets is not None else None), replace(taken, targets=None)


@dataclass(frozen=True)
class NoneOfThese:
    """The header's field ``none``: a detector, and the least familiarity at which a text gets a label.

    The threshold was chosen on ``rows`` validation rows for a share ``false_alarm``.
    """

    score: str
    threshold: float
    false_alarm: float
    rows: int

    def to_json(self) -> dict[str, Any]:
        """The header's field ``none``."""
        return asdict(self)

    def shapes(self, num_labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the detector's tensors in the adapter file, by name."""
        from polytask.evaluation.detectors import DETECTORS

        own = DETECTORS[self.score].shapes(num_labels, hidden)
        return {f"none.{name}": shape for name, shape in own.items()}

    def familiarity(self, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """The familiarity of texts, ``[B]``.

        Args:
            vectors: pooled vectors, ``[B, D]``.
            logits: the head's logits, ``[B, K]``.
            tensors: the tensors listed by ``shapes``.
        """
        from polytask.evaluation.detectors import DETECTORS

        own = {name.removeprefix("none."): tensor for name, tensor in tensors.items()}
        return DETECTORS[self.score].familiarity(vectors.float(), logits, own)


_FIELDS: dict[str, tuple[type, ...]] = {
    "score": (str,),
    "threshold": (float, int),
    "false_alarm": (float,),
    "rows": (int,),
}


def none_from_json(given: Mapping[str, Any], kind: Kind) -> NoneOfThese:
    """Read the header's field ``none``.

    Raises:
        AdapterError: the field is invalid, or the head is not a classification.
    """
    from polytask.evaluation.detectors import DETECTORS

    if set(given) != set(_FIELDS) or any(type(given[name]) not in types for name, types in _FIELDS.items()):
        raise AdapterError(f"'none' must have the fields {', '.join(_FIELDS)}, or one of them has the wrong type")
    if kind != "classification" or given["score"] not in DETECTORS:
        raise AdapterError(f"'none' is {given['score']!r:.60} of a {kind} head; it can be {', '.join(DETECTORS)}")
    if not 0 < given["false_alarm"] < 1 or given["rows"] < 1 or not abs(given["threshold"]) <= 1e30:
        raise AdapterError("'none' has a false-alarm rate, a number of rows or a threshold that is out of range")
    return NoneOfThese(given["score"], float(given["threshold"]), given["false_alarm"], given["rows"])


def threshold_of(familiarity: Sequence[float], false_alarm: float) -> float | None:
    """The familiarity that at most a share ``false_alarm`` of similar rows is below; None if there are too few rows.

    It is the ``⌊(n + 1) · false_alarm⌋``-th smallest, lowered by a thousandth of its distance to the median, so that
    rounding does not affect a text that equals that row.
    """
    rank = int((len(familiarity) + 1) * false_alarm + 1e-9)
    if not rank:
        return None
    cut = sorted(familiarity)[rank - 1]
    return cut - MARGIN * abs(median(familiarity) - cut)


def label_of_none(result: Mapping[str, Any]) -> str | None:
    """The label of the examples that an adapter was trained with, by the ``result`` of its header; None if unknown."""
    said = result.get("none")
    label = said.get("label") if isinstance(said, Mapping) else None
    return label if isinstance(label, str) else None


def none_measured(familiar: Sequence[bool], unfamiliar: Sequence[bool]) -> dict[str, list[float] | None]:
    """The false-alarm rate on rows with one of the labels, and the share that is found of rows with none of them.

    Args:
        familiar: for each row with one of the labels, whether it was answered with none of these.
        unfamiliar: likewise, for each row with none of the labels.

    Returns:
        ``false_alarms`` and ``found``: a share and its 95% interval (Wilson); None without rows.
    """
    return {"false_alarms": share(sum(familiar), len(familiar)), "found": share(sum(unfamiliar), len(unfamiliar))}


def separated(familiar: Sequence[float], unfamiliar: Sequence[float]) -> dict[str, float]:
    """``auroc`` and ``fpr95`` of the familiarity of rows with a right label and of rows without; empty without both."""
    if not familiar or not unfamiliar:
        return {}
    return {"auroc": auroc(familiar, unfamiliar), "fpr95": false_positives(familiar, unfamiliar)}


def auroc(familiar: Sequence[float], unfamiliar: Sequence[float]) -> float:
    """The area under the ROC curve: the share of pairs in which the familiar text has the larger number."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([1] * len(familiar) + [0] * len(unfamiliar), [*familiar, *unfamiliar]))


def false_positives(familiar: Sequence[float], unfamiliar: Sequence[float], found: float = 0.95) -> float:
    """The share of unfamiliar texts that get a label when a share ``found`` of the familiar ones does (FPR at 95%)."""
    cut = sorted(familiar)[int((1 - found) * len(familiar))]
    return sum(value >= cut for value in unfamiliar) / len(unfamiliar)
