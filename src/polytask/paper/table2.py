"""Table 2: the 17 further classification tasks, with words counted without a transformer as the first column."""

from __future__ import annotations

from dataclasses import replace

from polytask.paper.comparison import Comparison, Contender, Line, of_family, sizes
from polytask.paper.published import TABLE2, TABLE2_SIZES, Published
from polytask.suites.text17 import TEXT17


def _published(name: str, column: str) -> Published:
    return replace(TABLE2[name], scores={task.name: getattr(task, column) for task in TEXT17.values()})


table2 = Comparison(
    title="Table 2: 17 further tasks",
    lines=tuple(
        Line(task.name, task.title, "text17", task.name, task.name, (task.rows[0], task.rows[2]))
        for task in TEXT17.values()
    ),
    contenders=(
        Contender("no BERT", of_family("tfidf"), _published("no bert", "no_bert")),
        Contender("full", of_family("full"), _published("full", "full"), is_whole=True),
        Contender("top layers", of_family("top"), _published("top", "top")),
        Contender("LayerNorms", of_family("layernorm"), is_optional=True),
        Contender("adapters", sizes(TABLE2_SIZES), _published("adapters", "adapters")),
    ),
    theirs="BERT-base (its no-BERT column: AutoML over many kinds of models)",
    remarks=(
        "Test accuracy × 100. No BERT: TF-IDF and logistic regression.",
        "The paper's means are taken over its columns here.",
    ),
)
