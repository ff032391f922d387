"""The numbers of Tables 1 and 2: our scores per task and method beside the paper's, means, and parameter counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from polytask.paper.contamination import seen_by
from polytask.paper.ledger import Entry, Suite
from polytask.paper.published import Published
from polytask.paper.selection import Choice, Estimate, NothingToShow, Setting, choose, settings
from polytask.paper.wording import listed


@dataclass(frozen=True)
class Line:
    """A task as the paper lists it.

    Attributes:
        name: in ``GLUE`` or ``TEXT17``.
        title: in print.
        task: whose adapter answers it; ``name`` except for MNLI-mm.
        mean_of: lines that share this count as one task in means and as one adapter in totals.
        rows: official numbers of training rows and of test rows.
    """

    name: str
    title: str
    suite: Suite
    task: str
    mean_of: str
    rows: tuple[int, int]

    @property
    def also(self) -> str | None:
        """The name of its test rows if they are not those of its adapter's own task."""
        return None if self.name == self.task else self.name


@dataclass(frozen=True)
class Contender:
    """A method with a column.

    Attributes:
        name: of the column.
        fits: which settings compete for the column.
        published: the paper's column; None if it has none.
        is_whole: needs no backbone besides its own copy.
        is_optional: left out if it was not run.
        part_of: the contender that chooses from these settings and more.
    """

    name: str
    fits: Callable[[Setting], bool]
    published: Published | None = None
    is_whole: bool = False
    is_optional: bool = False
    part_of: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What a table compares.

    Attributes:
        theirs: what the paper's numbers are.
        remarks: below the table.
        main: the contenders whose distance from full fine-tuning is told in words.
    """

    title: str
    lines: tuple[Line, ...]
    contenders: tuple[Contender, ...]
    theirs: str
    remarks: tuple[str, ...] = ()
    main: tuple[str, ...] = ("adapters",)

    @property
    def tasks(self) -> dict[str, Suite]:
        """The suite of each task that trains an adapter."""
        return {line.task: line.suite for line in self.lines}


class Outcome:
    """A comparison filled with the results there are.

    Raises:
        NothingToShow: no entry belongs to it.
    """

    def __init__(self, comparison: Comparison, entries: Sequence[Entry]) -> None:
        suites = set(comparison.tasks.values())
        self.comparison, self.lines, self.entries = comparison, comparison.lines, entries
        self.found = [setting for setting in settings(entries) if setting.suite in suites]
        self.chosen: dict[tuple[str, str], Choice | None] = {
            (task, contender.name): choose(self.competing(task, contender))
            for task in comparison.tasks
            for contender in comparison.contenders
        }
        if not any(self.chosen.values()):
            names = listed(sorted(suites))
            raise NothingToShow(f"{comparison.title}: the results hold no finished run of the suite {names}")
        self.contenders = [c for c in comparison.contenders if not c.is_optional or self.choices(c)]

    def choices(self, contender: Contender) -> list[Choice]:
        """What validation chose, one per task."""
        return [choice for task in self.comparison.tasks if (choice := self.chosen[task, contender.name])]

    def competing(self, task: str, contender: Contender) -> list[Setting]:
        """The settings of a task that validation chose from."""
        return [setting for setting in self.found if setting.task == task and contender.fits(setting)]

    def num_diverged(self, line: Line, contender: Contender) -> int:
        """How many runs of a contender on a task diverged."""
        return sum(setting.num_diverged for setting in self.competing(line.task, contender))

    def score(self, line: Line, contender: Contender) -> Estimate | None:
        """The test score of the setting that validation chose."""
        choice = self.chosen[line.task, contender.name]
        return None if choice is None else choice.setting.test(line.also)

    def entries_of(self, task: str) -> list[Entry]:
        """All entries of a task."""
        return [entry for setting in self.found if setting.task == task for entry in setting.entries]

    @cached_property
    def samples(self) -> set[str]:
        """Names of lines whose rows are a sample."""
        return {line.name for line in self.lines if any(e.data.get("is_sample") for e in self.entries_of(line.task))}

    @cached_property
    def seen(self) -> frozenset[str]:
        """Names of lines that the backbone saw in its own training."""
        return seen_by([entry for setting in self.found for entry in setting.entries])

    @cached_property
    def shared(self) -> list[Line]:
        """The lines that every contender (optional ones aside) has a score on: means are over these."""
        there = [contender for contender in self.contenders if self.choices(contender)]
        there = [contender for contender in there if not contender.is_optional] or there
        return [line for line in self.lines if all(self.score(line, contender) for contender in there)]

    @cached_property
    def unmarked(self) -> list[Line]:
        """The shared lines that are neither samples nor seen."""
        return [line for line in self.shared if line.name not in self.samples and line.name not in self.seen]

    def mean(self, lines: Sequence[Line], contender: Contender) -> Estimate | None:
        """Over tasks; None if a score is missing."""
        scores = [(line.mean_of, score) for line in lines if (score := self.score(line, contender))]
        return mean_of(scores) if len(scores) == len(lines) else None

    def published_mean(self, lines: Sequence[Line], contender: Contender) -> float | None:
        """The paper's mean over the same tasks; None if it lacks one."""
        scores = {} if contender.published is None else contender.published.scores
        found = [(line.mean_of, Estimate(scores[line.name], None, 1, 0, 0)) for line in lines if line.name in scores]
        mean = mean_of(found)
        return None if mean is None or len(found) < len(lines) else mean.mean

    def trained_shares(self, contender: Contender) -> list[float]:
        """Per task, the parameters trained (head included) as a share of the backbone's; empty without a backbone."""
        chosen = [choice.setting for choice in self.choices(contender)]
        return [setting.num_trained / num for setting in chosen if (num := setting.parameters["backbone"])]

    def parameters(self, contender: Contender) -> tuple[float, float] | None:
        """The mean share of the backbone that is trained per task, and all parameters needed as a multiple of one."""
        shares = self.trained_shares(contender)
        return (fmean(shares), sum(shares) + (not contender.is_whole)) if shares else None

    def rows(self) -> list[dict[str, Any]]:
        """One row per line and contender: scores in per cent, and how they were chosen."""
        return [self._row(line, contender) for line in self.lines for contender in self.contenders]

    def _row(self, line: Line, contender: Contender) -> dict[str, Any]:
        choice, score = self.chosen[line.task, contender.name], self.score(line, contender)
        recipe = choice.setting.recipe if choice else {}
        has_backbone = choice is not None and choice.setting.parameters["backbone"] > 0
        return {
            "task": line.name,
            "method": contender.name,
            "score": score and score.percent.mean,
            "sem": score and score.percent.sem,
            "seeds": score.num_seeds if score else 0,
            "paper": contender.published and contender.published.scores.get(line.name),
            "size": choice and choice.setting.size,
            "lr": recipe.get("lr"),
            "epochs": recipe.get("epochs"),
            "trained": choice.setting.num_trained if choice and has_backbone else None,
            "settings": choice.num_settings if choice else 0,
            "diverged": self.num_diverged(line, contender),
            "is_sample": line.name in self.samples,
            "is_seen": line.name in self.seen,
        }

    def missing(self) -> list[str]:
        """What is missing, a sentence for each group of contenders that lack the same."""
        lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for line in self.lines:
            names = tuple(c.name for c in self.contenders if self.score(line, c) is None)
            if names:
                lacking[names].append(line.title)
        everything = tuple(contender.name for contender in self.contenders)
        what = {names: "nothing" if names == everything else f"no {listed(names, 'or')}" for names in lacking}
        return [f"{self.comparison.title}: {what[names]} on {listed(titles)}." for names, titles in lacking.items()]


def mean_of(scores: Sequence[tuple[str, Estimate]]) -> Estimate | None:
    """The mean over groups of the means within them; None if there are none.

    The standard error treats scores as independent; None if one of them has none.
    """
    groups: dict[str, list[Estimate]] = defaultdict(list)
    for group, score in scores:
        groups[group].append(score)
    if not groups:
        return None
    means = [fmean(score.mean for score in group) for group in groups.values()]
    errors = [(one.sem, len(group) * len(groups)) for group in groups.values() for one in group]
    known = [sem / num for sem, num in errors if sem is not None]
    sem = sum(error**2 for error in known) ** 0.5 if len(known) == len(errors) else None
    return Estimate(fmean(means), sem, min(score.num_seeds for _, score in scores), min(means), max(means))


def adapters_of_size(*allowed: int) -> Callable[[Setting], bool]:
    """Whether a setting is adapters of one of these sizes."""
    return lambda setting: setting.family == "adapters" and setting.size in allowed


def of_family(name: str) -> Callable[[Setting], bool]:
    """Whether a setting is of this family."""
    return lambda setting: setting.family == name
