"""The numbers that Houlsby et al. printed (arXiv:1902.00751), in per cent. Table 2's scores are in ``TEXT17``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """A column of a table; None where the paper gives no number.

    Attributes:
        scores: by task.
        mean: as printed.
        total: parameters to solve all tasks, as a multiple of one backbone.
        trained: parameters per task, in per cent of the backbone.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    total: float | None = None
    trained: float | None = None


def _glue(scores: str, mean: float, total: float, trained: float) -> Published:
    names = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE")
    return Published(dict(zip(names, map(float, scores.split()), strict=True)), mean, total, trained)


# fmt: off
TABLE1: Mapping[str, Published] = {
    #                      CoLA SST  MRPC STSB QQP  MNLIm  mm  QNLI RTE  score total trained
    "full":         _glue("60.5 94.9 89.3 87.6 72.1 86.7 85.9 91.1 70.1", 80.4, 9.0, 100.0),
    "adapters":     _glue("59.5 94.0 89.5 86.9 71.8 84.9 85.1 90.7 71.5", 80.0, 1.3, 3.6),
    "adapters 64":  _glue("56.9 94.2 89.6 87.3 71.8 85.3 84.6 91.4 68.8", 79.6, 1.2, 2.1),
}
# fmt: on
"""GLUE's test set by its server, BERT-large. ``mean`` is the server's score, which also counts second metrics of three
tasks and WNLI: it is not the mean of the columns."""

TABLE1_SIZES = (8, 64, 256)
"""The sizes from which the column "adapters" takes the best for each task."""

TABLE2: Mapping[str, Published] = {
    "no bert": Published(mean=72.7),
    "full": Published(mean=73.7, total=17.0, trained=100.0),
    "top": Published(mean=74.0, total=9.9, trained=52.9),
    "adapters": Published(mean=73.3, total=1.19, trained=1.14),
}
"""The last rows of Table 2, BERT-base."""

TABLE2_SIZES = (2, 4, 8, 16, 32, 64)

SQUAD_F1: Mapping[str, float] = {"full": 90.7, "64": 90.4, "2": 89.9}
"""Figure 5: full fine-tuning and adapters by their size, dev F1."""

MNLI_TRADE_OFF: Mapping[str, tuple[float, float]] = {
    "adapters 64": (2e6, 83.7),
    "top 1": (9e6, 77.8),
    "full": (110e6, 84.4),
}
"""Figure 4: approximate number of trained parameters, and MNLI-m accuracy, BERT-base."""

LAYERNORM_BEHIND: Mapping[str, float] = {"CoLA": -3.5, "MNLI-m": -4.0}
"""Figure 4: LayerNorms alone (40,000 parameters) minus full fine-tuning, in points, read off the figure."""

SIZE_MEANS: Mapping[int, float] = {8: 86.2, 64: 85.8, 256: 85.7}
"""Mean validation accuracy over eight GLUE tasks by the adapters' size."""

BERT_BASE_ACCURACY: Mapping[str, tuple[float, float]] = {
    "CoLA": (81.83, 0.49),
    "SST-2": (91.97, 0.42),
    "MRPC": (81.99, 1.61),
    "QQP": (90.27, 0.54),
    "MNLI-m": (83.73, 0.23),
    "QNLI": (89.88, 0.75),
    "RTE": (59.98, 2.04),
    "20_newsgroups": (83.05, 0.43),
}
"""Full fine-tuning of bert-base-uncased: mean accuracy and standard deviation over 20 seeds. From IBM's model-recycling
(Choshen et al., arXiv:2211.00107), github.com/IBM/model-recycling, bert-base-uncased_pretrain_scores_table.md."""

BERT_BASE_SOURCE = (
    "BERT-base: full fine-tuning, mean ± standard deviation over 20 seeds, by IBM model-recycling (arXiv:2211.00107; "
    "github.com/IBM/model-recycling, bert-base-uncased_pretrain_scores_table.md), with its own splits, caps and "
    "recipe. Ours: accuracy of the trials compared above, another backbone on fewer rows. Context, not a comparison."
)
