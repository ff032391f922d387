"""The numbers of Tables 1 and 2: our scores per task and method beside the paper's, and means over tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from polytask.evaluation.caution import is_idle
from polytask.evaluation.model_selection import choose, over_seeds
from polytask.paper.selection import seen_by
from polytask.suites.published import Published
from polytask.suites.tasks import MISMATCHED, Listed, Suite, listed_tasks

SAMPLE = "a sample of the official rows: not comparable with the paper"
OTHER_ROWS = "not tested on all the official rows"
SEEN = "the backbone saw texts of this task in its own training"
NOT_RUN = "not run"
CELL = ["task", "contender"]


@dataclass(frozen=True)
class Contender:
    """A method with a column.

    Attributes:
        name: of the column.
        method: a family; only with these ``sizes``, if there are any.
        published: the paper's column; None if it has none.
        is_whole: needs no backbone besides its own copy.
        is_optional: left out if it was not run.
        is_part: another contender chooses from its settings and more.
    """

    name: str
    method: str
    published: Published | None = None
    sizes: tuple[int, ...] = ()
    is_whole: bool = False
    is_optional: bool = False
    is_part: bool = False

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The runs that compete for its column."""
        fits = runs.method == self.method
        return runs[fits & runs["size"].isin(self.sizes) if self.sizes else fits].assign(contender=self.name)


@dataclass(frozen=True)
class Comparison:
    """What a table compares.

    Attributes:
        theirs: what the paper's numbers are.
        remarks: below the table.
        main: the contenders whose distance from full fine-tuning is told in words.
    """

    title: str
    suite: Suite
    contenders: tuple[Contender, ...]
    theirs: str
    remarks: tuple[str, ...] = ()
    main: tuple[str, ...] = ("adapters",)

    def cells(self, runs: pd.DataFrame) -> pd.DataFrame:
        """A row for each task and contender, in their order; empty if nothing has finished.

        Besides scores in per cent, and how they were chosen, it has what footnotes and means are made of: ``title``,
        ``mean_of``, ``notes`` (on the task), ``tried`` (sizes), ``share`` (parameters trained, head included, as a
        share of the backbone's), ``runs`` (of the chosen setting), ``is_adapter`` (False for MNLI-mm) and ``is_idle``.
        """
        own, lines = _by_line(runs[runs.suite == self.suite]), {line.name: line for line in listed_tasks(self.suite)}
        competing = pd.concat([contender.of(own) for contender in self.contenders])
        competing = competing[competing.task.isin(lines)]
        chosen = choose(competing, *CELL)
        return chosen if chosen.empty else self._about_tasks(self._scores(competing, chosen, list(lines)), own, lines)

    def _scores(self, competing: pd.DataFrame, chosen: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
        """The score of each contender on each task, its parameters, and how it was chosen."""
        shown = [c.name for c in self.contenders if not c.is_optional or c.name in set(chosen.contender)]
        index = pd.MultiIndex.from_product([tasks, shown], names=CELL)
        cells = over_seeds(chosen, *CELL).set_index(CELL).rename(columns={"mean": "score"}).reindex(index)
        trained, groups, tried = cells.trained + cells["head"], chosen.groupby(CELL), competing.groupby(CELL)
        cells = cells.assign(
            trained=trained.where(cells.backbone > 0),
            share=(trained / cells.backbone).where(cells.backbone > 0),
            runs=groups.size(),
            is_idle=groups.matthews.agg(is_idle),
            tried=tried["size"].agg(lambda sizes: frozenset(sizes) - {0}),
            diverged=tried.diverged.sum(),
        ).reset_index()
        whole = ("seeds", "settings", "diverged", "size")
        cells = cells.fillna(dict.fromkeys(whole, 0)).astype({**dict.fromkeys(whole, int), "trained": "Int64"})
        published = {c.name: c.published.scores for c in self.contenders if c.published}
        papers = [published.get(c, {}).get(task) for task, c in zip(cells.task, cells.contender)]
        return cells.assign(method=cells.contender, paper=papers)

    def _about_tasks(self, cells: pd.DataFrame, runs: pd.DataFrame, lines: dict[str, Listed]) -> pd.DataFrame:
        """The cells with what is to be said of their tasks."""
        seen, has_run = seen_by(runs.entry), set(cells.task[cells.settings > 0])
        notes = {n: tuple(_notes(line, runs[runs.task == n], n in has_run, seen)) for n, line in lines.items()}
        return cells.assign(
            title=[lines[task].title for task in cells.task],
            mean_of=[lines[task].counts_as for task in cells.task],
            notes=cells.task.map(notes),
            is_sample=cells.task.isin(runs.task[runs.is_sample]),
            is_seen=cells.task.isin(seen),
            is_adapter=cells.task != MISMATCHED,
        )


def _by_line(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, with those of MNLI-m once more for MNLI-mm, which its adapter answers too."""
    mnli = runs[runs.task == "MNLI-m"]
    return pd.concat([runs, mnli.assign(task=MISMATCHED, test=mnli.mismatched, test_rows=mnli.mismatched_rows)])


def _notes(line: Listed, runs: pd.DataFrame, has_run: bool, seen: frozenset[str]) -> Iterator[str]:
    """Footnotes on a task."""
    if not has_run:
        yield "all runs diverged" if len(runs) else NOT_RUN
    if runs.is_sample.any():
        yield SAMPLE
    elif (runs.test_rows.dropna() != line.rows[1]).any():
        yield OTHER_ROWS
    caps = runs.max_rows[is_capped(runs.max_rows, runs.train_rows, line.rows[0])]
    yield from (f"trained on {int(cap):,} rows at most" for cap in sorted(set(caps)))
    if len(runs) and line.name in seen:
        yield SEEN


def is_capped(caps: pd.Series[float], rows: pd.Series[int], official: int) -> pd.Series[bool]:
    """Whether the edition's cap left rows out: the rows are the cap's, less up to a tenth held out."""
    caps = caps.astype(float)
    return (caps < official) & (rows >= caps - caps // 10)
