"""The form that Tables 1 and 2 share: a line a task, ours beside the paper's, means, and the cost in parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from polytask.paper.caution import is_idle, on_idle
from polytask.paper.contamination import backbone_in_words, seen_by
from polytask.paper.ledger import Entry, Suite
from polytask.paper.published import Published
from polytask.paper.selection import Choice, Estimate, NothingToShow, Setting, choose, of_task, settings
from polytask.paper.table import MISSING, Cell, Column, Row, Table
from polytask.paper.wording import and_so_on, apart, listed, number_of
from polytask.training.result import Score

SAMPLE = "a sample of the official rows: not comparable with the paper"
OTHER_ROWS = "not tested on all the official rows"
SEEN = "the backbone saw texts of this task in its own training"
NOT_RUN = "not run"
NO_BACKBONE = "no BERT"
"""The column of counted words."""


@dataclass(frozen=True)
class Line:
    """A task as the paper lists it.

    Attributes:
        name: in ``GLUE`` or ``TEXT17``.
        title: in print.
        task: whose adapter answers it; ``name`` but for MNLI-mm.
        mean_of: lines that share this count as one task in means and as one adapter in totals.
        rows: official rows of train, and of the rows that are reported.
    """

    name: str
    title: str
    suite: Suite
    task: str
    mean_of: str
    rows: tuple[int, int]

    @property
    def also(self) -> str | None:
        """The name of its test rows where they are not its adapter's own."""
        return None if self.name == self.task else self.name


@dataclass(frozen=True)
class Contender:
    """A method with a column.

    Attributes:
        name: of the method, as ``rows`` has it.
        fits: which settings compete to stand in its column.
        published: the paper's column; None where it has none.
        is_whole: needs no backbone beside its own copy.
        is_optional: left out where nothing of it was run.
        part_of: whose settings are its own too, so that it had fewer to choose from.
    """

    name: str
    fits: Callable[[Setting], bool]
    published: Published | None = None
    is_whole: bool = False
    is_optional: bool = False
    part_of: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What is compared; ``theirs`` says what the paper's figures are."""

    title: str
    lines: tuple[Line, ...]
    contenders: tuple[Contender, ...]
    theirs: str
    remarks: tuple[str, ...] = ()
    main: tuple[str, ...] = ("adapters",)
    """Whose distance from full fine-tuning is told in words."""

    def rows(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """One line a task and method: scores in per cent, and how they were chosen."""
        return Outcome(self, entries).rows()

    def table(self, entries: Sequence[Entry]) -> Table:
        """Ours and the paper's."""
        return Outcome(self, entries).table()

    def reading(self, entries: Sequence[Entry]) -> str:
        """What it comes to, in a sentence or two."""
        return Outcome(self, entries).reading()

    def missing(self, entries: Sequence[Entry]) -> list[str]:
        """What the table lacks, a sentence a method."""
        return Outcome(self, entries).missing()


@dataclass(frozen=True)
class Outcome:
    """A comparison on the entries that there are.

    Raises:
        NothingToShow: none of them belongs to it.
    """

    comparison: Comparison
    entries: Sequence[Entry]
    found: list[Setting] = field(init=False)

    def __post_init__(self) -> None:
        suites = {line.suite for line in self.comparison.lines}
        object.__setattr__(self, "found", [s for s in settings(self.entries) if s.suite in suites])
        if not any(self.chosen.values()):
            names = listed(sorted(suites))
            raise NothingToShow(f"{self.comparison.title}: the ledger holds no finished entry of the suite {names}")

    @cached_property
    def chosen(self) -> dict[tuple[str, str], Choice | None]:
        """By task and contender."""
        tasks = {line.task: line.suite for line in self.comparison.lines}
        return {
            (task, contender.name): choose(of_task(self.found, suite, task, contender.fits))
            for task, suite in tasks.items()
            for contender in self.comparison.contenders
        }

    @cached_property
    def contenders(self) -> list[Contender]:
        """Those with a column."""
        return [c for c in self.comparison.contenders if not c.is_optional or self.runs_of(c)]

    def runs_of(self, contender: Contender) -> list[Choice]:
        """Its choices, one a task."""
        tasks = dict.fromkeys(line.task for line in self.comparison.lines)
        return [choice for task in tasks if (choice := self.chosen[task, contender.name])]

    def score(self, line: Line, contender: Contender) -> Estimate | None:
        """Of the setting that validation chose, on test rows."""
        choice = self.chosen[line.task, contender.name]
        return None if choice is None else choice.setting.test(line.also)

    def entries_of(self, task: str) -> list[Entry]:
        """All entries of a task."""
        return [entry for setting in self.found if setting.task == task for entry in setting.entries]

    @cached_property
    def samples(self) -> set[str]:
        """Names of lines whose rows are a sample."""
        tasks = {line.task for line in self.comparison.lines}
        sampled = {task for task in tasks if any(entry.data.get("is_sample") for entry in self.entries_of(task))}
        return {line.name for line in self.comparison.lines if line.task in sampled}

    @cached_property
    def seen(self) -> frozenset[str]:
        """Names of lines that the backbone has seen."""
        return seen_by([entry for setting in self.found for entry in setting.entries])

    @cached_property
    def shared(self) -> list[Line]:
        """The lines that every contender with a score has, optional ones aside: means are over these."""
        there = [c for c in self.contenders if self.runs_of(c)]
        there = [c for c in there if not c.is_optional] or there
        return [line for line in self.comparison.lines if all(self.score(line, c) for c in there)]

    @cached_property
    def unmarked(self) -> list[Line]:
        """Of these, neither samples nor seen."""
        return [line for line in self.shared if line.name not in self.samples and line.name not in self.seen]

    def mean(self, lines: Sequence[Line], contender: Contender) -> Estimate | None:
        """Over tasks, its standard error from theirs; None where it lacks one of them."""
        scores = [(line.mean_of, score) for line in lines if (score := self.score(line, contender))]
        return mean_of(scores) if len(scores) == len(lines) else None

    def published_mean(self, lines: Sequence[Line], contender: Contender) -> float | None:
        """The paper's over the same tasks."""
        scores = {} if contender.published is None else contender.published.scores
        groups = [(line.mean_of, Estimate(scores[line.name], None, 1, 0, 0)) for line in lines if line.name in scores]
        mean = mean_of(groups)
        return None if mean is None or len(groups) < len(lines) else mean.mean

    def trained(self, contender: Contender) -> float | None:
        """Parameters trained for a task, heads included, as a share of the backbone's: the mean over tasks."""
        shares = [s.num_trained / of for s in (c.setting for c in self.runs_of(contender)) if (of := _backbone(s))]
        return fmean(shares) if shares else None

    def total(self, contender: Contender) -> float | None:
        """All parameters that the tasks need together, in backbones."""
        shares = [s.num_trained / of for s in (c.setting for c in self.runs_of(contender)) if (of := _backbone(s))]
        return sum(shares) + (not contender.is_whole) if shares else None

    def rows(self) -> list[dict[str, Any]]:
        """See ``Comparison.rows``."""
        rows = []
        for line in self.comparison.lines:
            for contender in self.contenders:
                choice, score = self.chosen[line.task, contender.name], self.score(line, contender)
                setting = choice.setting if choice else None
                paper = contender.published.scores.get(line.name) if contender.published else None
                rows.append(
                    {
                        "task": line.name,
                        "method": contender.name,
                        "score": score and 100 * score.mean,
                        "sem": None if score is None or score.sem is None else 100 * score.sem,
                        "seeds": score.num_seeds if score else 0,
                        "paper": paper,
                        "size": setting.size if setting else None,
                        "lr": setting.recipe.get("lr") if setting else None,
                        "epochs": setting.recipe.get("epochs") if setting else None,
                        "trained": setting.num_trained if setting and _backbone(setting) else None,
                        "settings": choice.num_settings if choice else 0,
                        "diverged": choice.num_diverged if choice else self.diverged(line, contender),
                        "is_sample": line.name in self.samples,
                        "is_seen": line.name in self.seen,
                    }
                )
        return rows

    def diverged(self, line: Line, contender: Contender) -> int:
        """How many runs of a contender on a task were lost."""
        return sum(setting.num_diverged for setting in self._competing(line, contender))

    def table(self) -> Table:
        """See ``Comparison.table``."""
        theirs = [contender for contender in self.contenders if contender.published]
        columns = [Column("task", is_number=False)]
        columns += [Column(contender.name, "ours") for contender in self.contenders]
        columns += [Column(contender.name, "paper") for contender in theirs]
        scores = tuple(self._line(line, theirs) for line in self.comparison.lines)
        means = [self._mean(f"mean of {number_of(_tasks(self.shared), 'task')}", self.shared, theirs)]
        if len(self.unmarked) < len(self.shared):
            name = f"mean of the {_tasks(self.unmarked)} neither a sample nor seen"
            means.append(self._mean(name, self.unmarked, theirs))
        return Table(
            self.comparison.title,
            tuple(columns),
            (scores, tuple(means), self._parameters(theirs)),
            " ".join(self._caption()),
        )

    def _line(self, line: Line, theirs: Sequence[Contender]) -> Row:
        is_run = any(self.chosen[line.task, contender.name] for contender in self.contenders)
        cells = [Cell(line.title, tuple(self._notes(line, is_run)))]
        cells += [self._cell(line, contender, is_run) for contender in self.contenders]
        return [*cells, *(Cell.number(c.published.scores.get(line.name)) for c in theirs if c.published)]

    def _notes(self, line: Line, is_run: bool) -> list[str]:
        """What touches the whole line."""
        entries = self.entries_of(line.task)
        notes = [] if is_run else [NOT_RUN if not entries else "all runs diverged"]
        if line.name in self.samples:
            notes.append(SAMPLE)
        elif any(score.rows != line.rows[1] for entry in entries if (score := _reported(entry, line))):
            notes.append(OTHER_ROWS)
        caps = {e.trial.max_rows for e in entries if is_capped(e, line.rows[0]) and e.trial.max_rows}
        notes += [f"trained on {cap:,} rows at most" for cap in sorted(caps)]
        return [*notes, *([SEEN] if entries and line.name in self.seen else [])]

    def _cell(self, line: Line, contender: Contender, is_run: bool) -> Cell:
        score = self.score(line, contender)
        if score is None:
            lost = self.diverged(line, contender)
            return Cell(
                MISSING, (f"{number_of(lost, 'run')} diverged, no setting is whole" if lost else NOT_RUN,) * is_run
            )
        notes = [SAMPLE] if line.name in self.samples else []
        usual = self._seeds_of(contender)
        if score.num_seeds < usual:
            notes.append(f"{number_of(score.num_seeds, 'seed')} instead of {usual}")
        return Cell.number(100 * score.mean, score.sem and 100 * score.sem, notes=notes)

    def _seeds_of(self, contender: Contender) -> int:
        return max(len(choice.setting.entries) for choice in self.runs_of(contender))

    def _mean(self, name: str, lines: Sequence[Line], theirs: Sequence[Contender]) -> Row:
        notes = [SAMPLE] * any(line.name in self.samples for line in lines)
        cells = [Cell(name)]
        for contender in self.contenders:
            mean = self.mean(lines, contender)
            sem = mean.sem if mean else None
            score = 100 * mean.mean if mean else None
            lacking = ("not run on all of these tasks",) if lines and self.runs_of(contender) else ()
            cells.append(Cell.number(score, sem and 100 * sem, notes=notes if mean else lacking))
        return [*cells, *(Cell.number(self.published_mean(lines, contender)) for contender in theirs)]

    def _parameters(self, theirs: Sequence[Contender]) -> tuple[Row, ...]:
        """The last two lines."""
        totals = [Cell("parameters in all, × one backbone")]
        totals += [Cell.number(self.total(c), form=".2f", unit="×") for c in self.contenders]
        totals += [Cell.number(c.published.total, form=".4g", unit="×") for c in theirs if c.published]
        shares = [Cell("trained for each task")]
        for contender in self.contenders:
            share = self.trained(contender)
            shares.append(Cell.number(share and 100 * share, form=".2f", unit="%"))
        shares += [Cell.number(c.published.trained, form=".4g", unit="%") for c in theirs if c.published]
        return (totals, shares)

    def _caption(self) -> list[str]:
        seeds = {choice.setting.test().num_seeds for c in self.contenders for choice in self.runs_of(c)}  # type: ignore[union-attr]
        over = f"{min(seeds)} to {number_of(max(seeds), 'seed')}" if len(seeds) > 1 else number_of(max(seeds), "seed")
        ours = f"Ours: {backbone_in_words(self.entries)}, mean over {over}"
        ours += " ± standard error." if max(seeds) > 1 else "."
        said = [ours, f"Paper: {self.comparison.theirs}.", *self.comparison.remarks]
        left_out = [line.title for line in self.comparison.lines if line not in self.shared]
        if left_out:
            said.append(f"Means leave out what not every method has: {and_so_on(left_out, 17)}.")
        return [*said, *self._sizes(), self._trials(), *self._lost()]

    def _sizes(self) -> list[str]:
        """Of what each method is the best for each task, where that is more than one size."""
        said = []
        for contender in self.contenders:
            fitting = {s.size for line in self.comparison.lines for s in self._competing(line, contender)}
            sizes = sorted(size for size in fitting if size is not None)
            if len(sizes) > 1:
                said.append(f"{contender.name.capitalize()}: the best of {listed([str(size) for size in sizes])}.")
        return said

    def _competing(self, line: Line, contender: Contender) -> list[Setting]:
        return of_task(self.found, line.suite, line.task, contender.fits)

    def _trials(self) -> str:
        """How many settings each method had to choose from, and whether that was fair."""
        counts = {c.name: sorted({choice.num_settings for choice in self.runs_of(c)}) for c in self.contenders}
        shown = [f"{name} {_span(found)}" for name, found in counts.items() if found]
        said = f"Settings to choose from for each task: {listed(shown)}."
        whole = [c.name for c in self.contenders if c.part_of is None and counts[c.name]]
        tasks = {line.task for line in self.shared}
        uneven = any(
            len({choice.num_settings for name in whole if (choice := self.chosen[task, name])}) > 1 for task in tasks
        )
        return f"{said} The methods had unequal numbers of trials." if uneven else said

    def _lost(self) -> list[str]:
        """A sentence on runs that diverged."""
        lost = {
            contender.name: sum(
                self.diverged(line, contender) for line in self.comparison.lines if line.name == line.task
            )
            for contender in self.contenders
        }
        shown = [f"{count} of {name}" for name, count in lost.items() if count]
        return [f"Runs that diverged, counted as trials and never chosen: {listed(shown)}."] if shown else []

    def reading(self) -> str:
        """See ``Comparison.reading``."""
        by_name = {contender.name: contender for contender in self.contenders}
        full, said = by_name.get("full"), []
        for name in self.comparison.main:
            ours = self.mean(self.shared, by_name[name]) if name in by_name else None
            base = self.mean(self.shared, full) if full else None
            share = self.trained(by_name[name]) if name in by_name else None
            if full is None or ours is None or base is None or share is None:
                continue
            words = apart(100 * (ours.mean - base.mean), "full fine-tuning")
            tasks = number_of(_tasks(self.shared), "task")
            sentence = (
                f"{_named(name)} are {words} on the mean of {tasks}, at {100 * share:.1f}% of the parameters for each"
            )
            theirs = [self.published_mean(self.shared, contender) for contender in (by_name[name], full)]
            if theirs[0] is not None and theirs[1] is not None:
                sentence += f" (in the paper {apart(theirs[0] - theirs[1])} on the same tasks)"
            said.append(f"{sentence}.")
        if said:
            said = [*self._warnings(by_name), *said]
        return (
            " ".join(said) or "Full fine-tuning and adapters were not both run on the same task, so nothing compares."
        )

    def _warnings(self, by_name: Mapping[str, Contender]) -> Iterator[str]:
        """What makes a distance between two methods mean little: it is said before the distance."""
        trained = [c for c in self.contenders if c.name != NO_BACKBONE and self.runs_of(c)]
        same = [line for line in self.shared if len({self._shown(line, c) for c in trained}) == 1]
        if len(trained) > 1 and self.shared and len(same) == len(self.shared):
            yield (
                "All methods trained on the backbone have the same score on every task; where it is that of the most "
                "frequent class, nothing was learnt."
            )
        elif idle := [line.title for line in self.shared if self._is_idle(line, trained)]:
            yield on_idle(idle)
        words = self.mean(self.shared, by_name[NO_BACKBONE]) if NO_BACKBONE in by_name else None
        means = [mean.mean for c in trained if (mean := self.mean(self.shared, c))]
        if words is not None and means and words.mean > max(means):
            ahead = apart(100 * (words.mean - max(means)), "every method on the backbone")
            yield f"Counted words (TF-IDF) are {ahead}."

    def _is_idle(self, line: Line, trained: Sequence[Contender]) -> bool:
        """Whether the answers of all of these say nothing of the right ones, as far as their entries tell."""
        choices = [choice for contender in trained if (choice := self.chosen[line.task, contender.name])]
        return is_idle(entry for choice in choices for entry in choice.setting.entries)

    def _shown(self, line: Line, contender: Contender) -> str:
        score = self.score(line, contender)
        return MISSING if score is None else f"{100 * score.mean:.2f}"

    def missing(self) -> list[str]:
        """See ``Comparison.missing``."""
        lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for line in self.comparison.lines:
            names = tuple(c.name for c in self.contenders if self.score(line, c) is None)
            if names:
                lacking[names].append(line.title)
        everything = tuple(contender.name for contender in self.contenders)
        what = {names: "nothing" if names == everything else f"no {listed(names, 'or')}" for names in lacking}
        return [f"{self.comparison.title}: {what[names]} on {listed(titles)}." for names, titles in lacking.items()]


def mean_of(scores: Sequence[tuple[str, Estimate]]) -> Estimate | None:
    """The mean over groups of the means within them; None of none.

    The standard error treats tasks as independent; None where a score has none.
    """
    groups: dict[str, list[Estimate]] = defaultdict(list)
    for group, score in scores:
        groups[group].append(score)
    if not groups:
        return None
    means = [fmean(score.mean for score in group) for group in groups.values()]
    variance, is_known = 0.0, True
    for members in groups.values():
        for score in members:
            is_known &= score.sem is not None
            variance += ((score.sem or 0.0) / len(members) / len(groups)) ** 2
    sem = variance**0.5 if is_known else None
    fewest = min(score.num_seeds for _, score in scores)
    return Estimate(fmean(means), sem, fewest, min(means), max(means))


def is_capped(entry: Entry, official: int) -> bool:
    """Whether the edition's cap left rows out: what it allows was used, a tenth perhaps held out of it."""
    cap = entry.trial.max_rows
    return cap is not None and official > cap and entry.data.get("train", 0) >= cap - cap // 10


def sizes(allowed: Sequence[int]) -> Callable[[Setting], bool]:
    """Adapters of these sizes."""
    return lambda setting: setting.family == "adapters" and setting.size in allowed


def of_family(name: str) -> Callable[[Setting], bool]:
    """All settings of a family."""
    return lambda setting: setting.family == name


def _reported(entry: Entry, line: Line) -> Score | None:
    return entry.test if line.also is None else entry.also.get(line.also)


def _backbone(setting: Setting) -> int:
    return int(setting.entries[0].parameters.get("backbone", 0))


def _tasks(lines: Sequence[Line]) -> int:
    return len({line.mean_of for line in lines})


def _span(counts: Sequence[int]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _named(name: str) -> str:
    """``adapters 64`` as the beginning of a sentence."""
    kind, _, size = name.partition(" ")
    return f"{kind.capitalize()} of size {size}" if size.isdigit() else name.capitalize()
