"""Table 1, GLUE, and Table 2, the 17 further classification tasks with TF-IDF as a method without a transformer."""

from __future__ import annotations

from polytask.paper.comparison import Comparison, Contender
from polytask.paper.comparison_table import NO_BACKBONE, comparison_exhibit
from polytask.suites.published import TABLE1, TABLE1_SIZES, TABLE2, TABLE2_SIZES

TOP = Contender("top layers", "top", is_optional=True)
NORMS = Contender("LayerNorms", "layernorm", is_optional=True)

TABLE_1 = comparison_exhibit(
    "table1",
    Comparison(
        title="Table 1: GLUE",
        suite="glue",
        contenders=(
            Contender(NO_BACKBONE, "tfidf", is_optional=True),
            Contender("full", "full", TABLE1["full"], is_whole=True),
            TOP,
            NORMS,
            Contender("adapters", "adapters", TABLE1["adapters"], TABLE1_SIZES),
            Contender("adapters 64", "adapters", TABLE1["adapters 64"], (64,), is_part=True),
        ),
        theirs="BERT-large on GLUE's secret test set",
        remarks=(
            "Ours are scores on dev; a tenth of train was held out to choose.",
            "Matthews correlation for CoLA, F1 for MRPC and QQP, Spearman correlation for STS-B, accuracy otherwise.",
            "All × 100.",
            "MNLI-m and MNLI-mm are answered by one adapter, counted once in means and parameters; the paper counts "
            "two.",
            "The paper's means are taken over its columns in the same way; it prints GLUE's own score, which counts "
            f"more: {TABLE1['full'].mean}, {TABLE1['adapters'].mean} and {TABLE1['adapters 64'].mean}.",
        ),
        main=("adapters", "adapters 64"),
    ),
)

TABLE_2 = comparison_exhibit(
    "table2",
    Comparison(
        title="Table 2: 17 further tasks",
        suite="text17",
        contenders=(
            Contender(NO_BACKBONE, "tfidf", TABLE2["no bert"]),
            Contender("full", "full", TABLE2["full"], is_whole=True),
            Contender("top layers", "top", TABLE2["top"]),
            NORMS,
            Contender("adapters", "adapters", TABLE2["adapters"], TABLE2_SIZES),
        ),
        theirs="BERT-base (its no-BERT column: AutoML over many kinds of models)",
        remarks=(
            "Test accuracy × 100. No BERT: TF-IDF and logistic regression.",
            "The paper's means are taken over its columns here.",
        ),
    ),
)
