"""The tables and figures, one row each. All are drawn from entries of the ledger; none trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.paper import ablation, extensions, initialisation, learning_rates, squad_size, tradeoff
from polytask.paper.ledger import Entry
from polytask.paper.published import SIZE_MEANS
from polytask.paper.table import Table, of_rows
from polytask.paper.table1 import table1
from polytask.paper.table2 import table2
from polytask.paper.wording import listed

Entries = Sequence[Entry]


@dataclass(frozen=True)
class Exhibit:
    """A table or a figure.

    Attributes:
        name: as the command line has it; files are named by it.
        title: above it.
        in_paper: what the paper says.
        rows: its numbers, a dict a line; raises ``NothingToShow`` where the entries do not suffice.
        table: to be read; of a figure its rows.
        reading: what the numbers say, a sentence or two.
        draw: writes the figure; None for tables.
        missing: what it lacks, in sentences.
        has_footnotes: says in its table which tasks are samples, capped or known to the backbone.
        plan: under which name an edition has what is run for it; ``name`` unless given.
    """

    name: str
    title: str
    in_paper: str
    rows: Callable[[Entries], list[dict[str, Any]]]
    table: Callable[[Entries], Table]
    reading: Callable[[Entries], str]
    draw: Callable[[Entries, Path], None] | None = None
    missing: Callable[[Entries], list[str]] = lambda entries: []
    plan: str = ""
    has_footnotes: bool = False


def _figure(
    name: str,
    title: str,
    in_paper: str,
    rows: Callable[[Entries], list[dict[str, Any]]],
    draw: Callable[[Entries, Path], None] | None,
    reading: Callable[[Entries], str],
    plan: str = "",
) -> Exhibit:
    def table(entries: Entries) -> Table:
        return of_rows(title, rows(entries))

    return Exhibit(name, title, in_paper, rows, table, reading, draw, plan=plan)


EXHIBITS: Mapping[str, Exhibit] = {
    exhibit.name: exhibit
    for exhibit in (
        Exhibit(
            "table1",
            "Table 1: GLUE",
            "BERT-large on GLUE's test set: full fine-tuning 80.4, adapters of the best size of each task 80.0 with "
            "3.6% of the parameters trained for each, adapters of size 64 79.6 with 2.1%.",
            table1.rows,
            table1.table,
            table1.reading,
            missing=table1.missing,
            has_footnotes=True,
        ),
        Exhibit(
            "table2",
            "Table 2: 17 further tasks",
            "BERT-base, mean test accuracy: no BERT 72.7, full fine-tuning 73.7, top layers 74.0, adapters 73.3 with "
            "1.14% of the parameters trained for each.",
            table2.rows,
            table2.table,
            table2.reading,
            missing=table2.missing,
            has_footnotes=True,
        ),
        _figure(
            "tradeoff",
            "Figures 1 and 3: accuracy against trained parameters",
            "Adapters of every size stay close to full fine-tuning; fine-tuning the top layers alone loses more the "
            "fewer they are. Mean validation accuracy over eight GLUE tasks with sizes "
            f"{listed([str(size) for size in SIZE_MEANS])}: {listed([str(mean) for mean in SIZE_MEANS.values()])}.",
            tradeoff.rows,
            tradeoff.draw,
            tradeoff.reading,
        ),
        _figure(
            "tradeoff-tasks",
            "Figure 4: MNLI and CoLA against trained parameters",
            tradeoff.TASKS_IN_PAPER,
            tradeoff.task_rows,
            tradeoff.draw_tasks,
            tradeoff.task_reading,
            plan="tradeoff",
        ),
        _figure(
            "squad",
            "Figure 5: SQuAD against trained parameters",
            squad_size.IN_PAPER,
            squad_size.rows,
            squad_size.draw,
            squad_size.reading,
        ),
        _figure(
            "ablation",
            "Figure 6, left and centre: adapters taken out",
            ablation.IN_PAPER,
            ablation.rows,
            ablation.draw,
            ablation.reading,
        ),
        _figure(
            "init",
            "Figure 6, right: where adapters start",
            initialisation.IN_PAPER,
            initialisation.rows,
            initialisation.draw,
            initialisation.reading,
        ),
        _figure(
            "lr",
            "Figure 7: learning rates",
            learning_rates.IN_PAPER,
            learning_rates.rows,
            learning_rates.draw,
            learning_rates.reading,
        ),
        _figure(
            "extensions",
            "Extensions of the adapter",
            extensions.IN_PAPER,
            extensions.rows,
            None,
            extensions.reading,
        ),
    )
}
