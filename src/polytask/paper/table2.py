"""Table 2: the 17 further classification tasks; its first column is TF-IDF without a transformer."""

from __future__ import annotations

from dataclasses import replace

from polytask.paper.comparison import Comparison, Contender, Line
from polytask.paper.comparison_table import NO_BACKBONE, comparison_exhibit
from polytask.paper.published import TABLE2, TABLE2_SIZES, Published
from polytask.suites.text17 import TEXT17


def _published(name: str, column: str) -> Published:
    return replace(TABLE2[name], scores={task.name: getattr(task, column) for task in TEXT17.values()})


COMPARISON = Comparison(
    title="Table 2: 17 further tasks",
    suite="text17",
    lines=tuple(Line(task.name, task.title, task.name, (task.rows[0], task.rows[2])) for task in TEXT17.values()),
    contenders=(
        Contender(NO_BACKBONE, "tfidf", _published("no bert", "no_bert")),
        Contender("full", "full", _published("full", "full"), is_whole=True),
        Contender("top layers", "top", _published("top", "top")),
        Contender("LayerNorms", "layernorm", is_optional=True),
        Contender("adapters", "adapters", _published("adapters", "adapters"), TABLE2_SIZES),
    ),
    theirs="BERT-base (its no-BERT column: AutoML over many kinds of models)",
    remarks=(
        "Test accuracy × 100. No BERT: TF-IDF and logistic regression.",
        "The paper's means are taken over its columns here.",
    ),
)
EXHIBIT = comparison_exhibit(
    "table2",
    "BERT-base, mean test accuracy: no BERT 72.7, full fine-tuning 73.7, top layers 74.0, adapters 73.3 with "
    "1.14% of the parameters trained for each.",
    COMPARISON,
)
