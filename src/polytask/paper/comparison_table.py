"""A comparison as a table with footnotes, and what it says in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd

from polytask.drawing.exhibit import Exhibit
from polytask.drawing.table import MISSING, Cell, Column, Row, Table
from polytask.evaluation.caution import idle_in_words
from polytask.evaluation.model_selection import mean_over_tasks
from polytask.paper.comparison import NOT_RUN, SAMPLE, Comparison, Contender
from polytask.paper.selection import backbone_in_words
from polytask.suites.published import SAYS
from polytask.wording import and_so_on, apart, counted, listed

NO_BACKBONE = "no BERT"
"""The column of TF-IDF with logistic regression."""

COLUMNS = (
    *("task", "method", "score", "sem", "seeds", "paper", "size", "lr", "epochs", "trained", "settings"),
    *("diverged", "is_sample", "is_seen"),
)


def comparison_exhibit(name: str, comparison: Comparison) -> Exhibit:
    """The exhibit that shows a comparison."""
    return Exhibit(
        name,
        comparison.title,
        SAYS[name],
        f"{comparison.title}: the results hold no finished run of the suite {comparison.suite}",
        COLUMNS,
        comparison.cells,
        lambda cells: ComparisonTable(comparison, cells).reading(),
        own_table=lambda cells: ComparisonTable(comparison, cells).table(),
        missing=lambda cells: ComparisonTable(comparison, cells).missing(),
    )


@dataclass(frozen=True)
class ComparisonTable:
    """A comparison with its cells (``Comparison.cells``)."""

    comparison: Comparison
    cells: pd.DataFrame

    @cached_property
    def contenders(self) -> list[Contender]:
        """Those with a column."""
        return [c for c in self.comparison.contenders if c.name in set(self.cells.contender)]

    @cached_property
    def published(self) -> list[Contender]:
        """Those with a column in the paper."""
        return [c for c in self.contenders if c.published]

    @cached_property
    def chosen(self) -> pd.DataFrame:
        """The cells with a setting that validation chose, one for each adapter."""
        return self.cells[(self.cells.settings > 0) & self.cells.is_adapter]

    @cached_property
    def shared(self) -> pd.DataFrame:
        """The cells of tasks that every contender (optional ones aside) has a score on: means are over these."""
        there = [c for c in self.contenders if c.name in set(self.chosen.contender)]
        names = [c.name for c in there if not c.is_optional] or [c.name for c in there]
        lacking = self.cells.task[self.cells.contender.isin(names) & self.cells.score.isna()]
        return self.cells[~self.cells.task.isin(lacking)]

    def of(self, contender: Contender, cells: pd.DataFrame | None = None) -> pd.DataFrame:
        """A contender's cells among these (default: those of the shared tasks)."""
        cells = self.shared if cells is None else cells
        return cells[cells.contender == contender.name]

    def parameters(self, contender: Contender) -> tuple[float, float] | None:
        """The mean share of the backbone that is trained per task, and all parameters needed as a multiple of one."""
        shares = self.of(contender, self.chosen).share.dropna()
        return (fmean(shares), float(shares.sum()) + (not contender.is_whole)) if len(shares) else None

    # -- the table ----------------------------------------------------------------------------------------------------

    def table(self) -> Table:
        """Our scores and the paper's, a line per task, then means and parameter counts."""
        columns = [Column("task", is_number=False), *(Column(c.name, "ours") for c in self.contenders)]
        columns += [Column(c.name, "paper") for c in self.published]
        scores = tuple(self._score_row(own) for _, own in self.cells.groupby("task", sort=False))
        means = [self._mean_row(f"mean of {counted(_num_tasks(self.shared), 'task')}", self.shared)]
        unmarked = self.shared[~self.shared.is_sample & ~self.shared.is_seen]
        if len(unmarked) < len(self.shared):
            means.append(self._mean_row(f"mean of the {_num_tasks(unmarked)} neither a sample nor seen", unmarked))
        sections = (scores, tuple(means), self._parameter_rows())
        return Table(self.comparison.title, tuple(columns), sections, " ".join(self._caption()))

    def _score_row(self, cells: pd.DataFrame) -> Row:
        line, papers = cells.iloc[0], dict(zip(cells.contender, cells.paper))
        ours = [self._score_cell(cell, (cells.settings > 0).any()) for _, cell in cells.iterrows()]
        return [Cell(line.title, line.notes), *ours, *(Cell.number(papers[c.name]) for c in self.published)]

    def _score_cell(self, cell: Any, is_run: bool) -> Cell:
        if pd.isna(cell.score):
            note = f"{counted(cell.diverged, 'run')} diverged, no setting is whole" if cell.diverged else NOT_RUN
            return Cell(MISSING, (note,) if is_run else ())
        usual = int(self.cells.runs[self.cells.contender == cell.contender].max())
        notes = [SAMPLE] if cell.is_sample else []
        notes += [f"{counted(cell.seeds, 'seed')} instead of {usual}"] if cell.seeds < usual else []
        return Cell.number(cell.score, cell["sem"], notes=notes)

    def _mean_row(self, name: str, cells: pd.DataFrame) -> Row:
        sampled = (SAMPLE,) * bool(cells.is_sample.any())
        shown = [Cell(name)]
        for contender in self.contenders:
            mean = mean_over_tasks(self.of(contender, cells))
            lacking = ("not run on all of these tasks",) if len(cells) and len(self.of(contender, self.chosen)) else ()
            score, error = mean or (None, None)
            shown.append(Cell.number(score, error, notes=sampled if mean else lacking))
        theirs = [mean_over_tasks(self.of(c, cells), "paper") for c in self.published]
        return [*shown, *(Cell.number(mean and mean[0]) for mean in theirs)]

    def _parameter_rows(self) -> tuple[Row, Row]:
        ours = [self.parameters(contender) for contender in self.contenders]
        theirs = [contender.published for contender in self.published if contender.published]
        totals = [Cell.number(own and own[1], form=".2f", unit="×") for own in ours]
        totals += [Cell.number(column.total, form=".4g", unit="×") for column in theirs]
        trained = [Cell.number(own and 100 * own[0], form=".2f", unit="%") for own in ours]
        trained += [Cell.number(column.trained, form=".4g", unit="%") for column in theirs]
        return [Cell("parameters in all, × one backbone"), *totals], [Cell("trained for each task"), *trained]

    def _caption(self) -> Iterator[str]:
        fewest, most = self.chosen.seeds.min(), self.chosen.seeds.max()
        seeds = counted(most, "seed") if fewest == most else f"{fewest} to {counted(most, 'seed')}"
        error = " ± standard error" if most > 1 else ""
        yield f"Ours: {backbone_in_words(self.cells.entry.dropna())}, mean over {seeds}{error}."
        yield f"Paper: {self.comparison.theirs}."
        yield from self.comparison.remarks
        if left_out := list(self.cells.title[~self.cells.task.isin(self.shared.task)].unique()):
            yield f"Means leave out what not every method has: {and_so_on(left_out, 17)}."
        for contender in self.contenders:
            sizes = sorted(frozenset().union(*self.of(contender, self.cells).tried.dropna()))
            if len(sizes) > 1:
                yield f"{contender.name.capitalize()}: the best of {listed(list(map(str, sizes)))}."
        yield self._trials_in_words()
        lost = self.cells[self.cells.is_adapter].groupby("contender", sort=False).diverged.sum()
        if lost.any():
            shown = listed([f"{count} of {name}" for name, count in lost.items() if count])
            yield f"Runs that diverged, counted as trials and never chosen: {shown}."

    def _trials_in_words(self) -> str:
        """How many settings each method was chosen from, and whether that was fair."""
        counts = {c.name: self.of(c, self.chosen).settings for c in self.contenders}
        ends = {name: dict.fromkeys((own.min(), own.max())) for name, own in counts.items() if len(own)}
        shown = listed([f"{name} {' to '.join(map(str, own))}" for name, own in ends.items()])
        whole = self.chosen.contender.isin([c.name for c in self.contenders if not c.is_part])
        compared = self.chosen[whole & self.chosen.task.isin(self.shared.task)]
        is_fair = (compared.groupby("task").settings.nunique() <= 1).all()
        unfair = "" if is_fair else " The methods had unequal numbers of trials."
        return f"Settings to choose from for each task: {shown}.{unfair}"

    # -- in words -----------------------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """What is missing, a sentence for each group of contenders that lack the same."""
        lacking = self.cells[self.cells.score.isna()].groupby("title", sort=False).contender.agg(tuple)
        everything, title = tuple(contender.name for contender in self.contenders), self.comparison.title
        what = {names: "nothing" if names == everything else f"no {listed(names, 'or')}" for names in lacking}
        return [f"{title}: {said} on {listed(list(lacking.index[lacking == names]))}." for names, said in what.items()]

    def reading(self) -> str:
        """How far the main methods are from full fine-tuning, after what makes these distances mean little."""
        full = next(c for c in self.contenders if c.name == "full")
        main = [c for c in self.contenders if c.name in self.comparison.main]
        said = [sentence for contender in main if (sentence := self._distance(contender, full))]
        if not said:
            return "Full fine-tuning and adapters were not both run on the same task, so nothing compares."
        return " ".join([*self._warnings(), *said])

    def _distance(self, contender: Contender, full: Contender) -> str:
        """How far a method is from full fine-tuning; empty if one of them was not run on the same tasks."""
        ours, base = (mean_over_tasks(self.of(one)) for one in (contender, full))
        parameters = self.parameters(contender)
        if ours is None or base is None or parameters is None:
            return ""
        kind, _, size = contender.name.partition(" ")
        name = f"{kind.capitalize()} of size {size}" if size.isdigit() else contender.name.capitalize()
        published, published_base = (mean_over_tasks(self.of(one), "paper") for one in (contender, full))
        theirs = ""
        if published and published_base:
            theirs = f" (in the paper {apart(published[0] - published_base[0])} on the same tasks)"
        return (
            f"{name} are {apart(ours[0] - base[0], 'full fine-tuning')} on the mean of "
            f"{counted(_num_tasks(self.shared), 'task')}, at {100 * parameters[0]:.1f}% of the parameters for "
            f"each{theirs}."
        )

    def _warnings(self) -> Iterator[str]:
        """What makes a distance between two methods mean little."""
        trained = [c for c in self.contenders if c.name != NO_BACKBONE and len(self.of(c, self.chosen))]
        by_title = self.shared[self.shared.contender.isin([c.name for c in trained])].groupby("title", sort=False)
        idle = by_title.is_idle.agg(lambda cells: cells.dropna().all())
        num_levels = by_title.score.agg(lambda scores: scores.map("{:.2f}".format).nunique())
        if len(trained) > 1 and len(idle) and (num_levels == 1).all():
            yield (
                "All methods trained on the backbone have the same score on every task; where it is that of the most "
                "frequent class, nothing was learnt."
            )
        elif idle.any():
            yield idle_in_words(list(idle.index[idle]))
        means = {c.name: mean[0] for c in self.contenders if (mean := mean_over_tasks(self.of(c)))}
        words, best = means.pop(NO_BACKBONE, None), max(means.values(), default=float("inf"))
        if words is not None and words > best:
            yield f"Counted words (TF-IDF) are {apart(words - best, 'every method on the backbone')}."


def _num_tasks(cells: pd.DataFrame) -> int:
    return int(cells.mean_of.nunique())
