"""What Houlsby et al. printed (arXiv:1902.00751): numbers in per cent, and what they say of each table and figure.

Table 2's scores come from ``TEXT17``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polytask.suites.text17 import TEXT17
from polytask.wording import listed


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


def _text17(column: str, mean: float, total: float | None = None, trained: float | None = None) -> Published:
    scores = {task.name: getattr(task, column) for task in TEXT17.values()}
    return Published(scores, mean, total, trained)


TABLE2: Mapping[str, Published] = {
    "no bert": _text17("no_bert", 72.7),
    "full": _text17("full", 73.7, total=17.0, trained=100.0),
    "top": _text17("top", 74.0, total=9.9, trained=52.9),
    "adapters": _text17("adapters", 73.3, total=1.19, trained=1.14),
}
"""BERT-base, with the last rows of the table."""

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

SAYS: Mapping[str, str] = {
    "table1": "BERT-large on GLUE's test set: full fine-tuning 80.4, adapters of the best size of each task 80.0 with "
    "3.6% of the parameters trained for each, adapters of size 64 79.6 with 2.1%.",
    "table2": "BERT-base, mean test accuracy: no BERT 72.7, full fine-tuning 73.7, top layers 74.0, adapters 73.3 with "
    "1.14% of the parameters trained for each.",
    "tradeoff": "Adapters of every size stay close to full fine-tuning; fine-tuning the top layers alone loses more "
    "the fewer they are. Mean validation accuracy over eight GLUE tasks with sizes "
    f"{listed([str(size) for size in SIZE_MEANS])}: {listed([str(mean) for mean in SIZE_MEANS.values()])}.",
    "tradeoff-tasks": f"On MNLI-m with BERT-base, full fine-tuning {MNLI_TRADE_OFF['full'][1]}, adapters of size 64 "
    f"(about 2 M parameters) {MNLI_TRADE_OFF['adapters 64'][1]}, the top layer alone (about 9 M) "
    f"{MNLI_TRADE_OFF['top 1'][1]}; LayerNorms only about {abs(LAYERNORM_BEHIND['CoLA']):g} points behind on CoLA and "
    f"{abs(LAYERNORM_BEHIND['MNLI-m']):g} on MNLI.",
    "squad": f"BERT-base, F1 on dev: full fine-tuning {SQUAD_F1['full']}, adapters of size 64 {SQUAD_F1['64']} "
    f"(2% of the parameters), of size 2 {SQUAD_F1['2']} (0.1%).",
    "ablation": "BERT-base, size 64, MNLI and CoLA in accuracy: removing any one layer costs 2% at most, removing all "
    "leaves the majority class (MNLI 37%, CoLA 69%), and the lowest layers matter least.",
    "init": "BERT-base, size 64, MNLI and CoLA in accuracy: the same for standard deviations up to 1e-2, worse above, "
    "most of all on CoLA.",
    "lr": "Learning rates from 2e-5 to 1e-3, three seeds: adapters hold up over a wider range than full fine-tuning.",
    "extensions": "No gain from batch or layer normalisation inside the adapter, more layers in it, tanh instead of "
    "GELU, adapters after attention only, or adapters beside the sub-layers.",
}
"""What the paper says of an exhibit."""
