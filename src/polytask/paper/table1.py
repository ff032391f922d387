"""Table 1: GLUE."""

from __future__ import annotations

from polytask.paper.comparison import Comparison, Contender, Line
from polytask.paper.comparison_table import NO_BACKBONE, comparison_exhibit
from polytask.paper.published import TABLE1, TABLE1_SIZES
from polytask.suites.glue import GLUE

COMPARISON = Comparison(
    title="Table 1: GLUE",
    suite="glue",
    lines=tuple(
        Line(task.name, task.name, task.folder or task.name, task.rows[:2]) for task in GLUE.values() if task.in_mean
    ),
    contenders=(
        Contender(NO_BACKBONE, "tfidf", is_optional=True),
        Contender("full", "full", TABLE1["full"], is_whole=True),
        Contender("top layers", "top", is_optional=True),
        Contender("LayerNorms", "layernorm", is_optional=True),
        Contender("adapters", "adapters", TABLE1["adapters"], TABLE1_SIZES),
        Contender("adapters 64", "adapters", TABLE1["adapters 64"], (64,), is_part=True),
    ),
    theirs="BERT-large on GLUE's secret test set",
    remarks=(
        "Ours are scores on dev; a tenth of train was held out to choose.",
        "Matthews correlation for CoLA, F1 for MRPC and QQP, Spearman correlation for STS-B, accuracy otherwise.",
        "All × 100.",
        "MNLI-m and MNLI-mm are answered by one adapter, counted once in means and parameters; the paper counts two.",
        "The paper's means are taken over its columns in the same way; it prints GLUE's own score, which counts more: "
        f"{TABLE1['full'].mean}, {TABLE1['adapters'].mean} and {TABLE1['adapters 64'].mean}.",
    ),
    main=("adapters", "adapters 64"),
)
EXHIBIT = comparison_exhibit(
    "table1",
    "BERT-large on GLUE's test set: full fine-tuning 80.4, adapters of the best size of each task 80.0 with "
    "3.6% of the parameters trained for each, adapters of size 64 79.6 with 2.1%.",
    COMPARISON,
)
