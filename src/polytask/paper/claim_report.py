"""The claims as tables, for the page, the terminal and a document that holds them between two markers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from polytask.drawing.page import Section
from polytask.drawing.table import MISSING, Cell, Row, Table, columns_of, text_table
from polytask.evaluation.paired import PairedComparison, TaskDifference
from polytask.files import replace_between
from polytask.paper.claims import ALL, CLAIMS, Claim, Evidence, Finding
from polytask.paper.comparison import SEEN
from polytask.paper.edition import Edition, in_parts
from polytask.paper.edition import identity as identity_of
from polytask.paper.ledger import Entry
from polytask.paper.selection import ADAPTERS, backbone_in_words, seen_by
from polytask.suites.published import BERT_BASE_ACCURACY, BERT_BASE_SOURCE
from polytask.suites.tasks import Suite, title_of
from polytask.wording import counted, listed, points_in_words, signed

SAMPLE = "a sample of the official rows"
GROUPS: Mapping[str, tuple[Suite, ...]] = {"GLUE": ("glue",), "17 further tasks": ("text17",), "all tasks": ALL}
BEGIN, END = "<!-- begin results of the edition {} -->", "<!-- end results -->"


@dataclass(frozen=True)
class ClaimReport:
    """What the results of an edition say of the paper's claims."""

    edition: Edition
    entries: Sequence[Entry]

    @cached_property
    def evidence(self) -> Evidence:
        """The compared trials."""
        return Evidence(self.edition, self.entries)

    @cached_property
    def main(self) -> PairedComparison:
        """Adapters against full fine-tuning on all tasks."""
        return self.evidence.comparison("full")

    @cached_property
    def headline(self) -> str:
        """Mean(adapters) − mean(full fine-tuning) with its interval, and how much of the edition it is of."""
        found = self.main
        of = f"{len(found.differences)} of {counted(found.num_tasks, 'task')}"
        if not found.differences:
            return f"Adapters and full fine-tuning are both finished on {of}: nothing can be said yet."
        seeds, planned = found.num_seeds
        mean = points_in_words(found.mean, found.interval)
        return (
            f"Mean test score of adapters minus that of full fine-tuning: {mean}, on {of}, with {seeds} of the "
            f"{planned} seeds planned for them ({backbone_in_words(self.entries)})."
        )

    @cached_property
    def findings(self) -> list[tuple[Claim, Finding]]:
        """Each claim with what the results say of it."""
        return [(claim, claim.judge(self.evidence)) for claim in CLAIMS]

    @cached_property
    def verdicts(self) -> Table:
        """Each claim with the paper's figure, ours, and whether it is met."""
        rows = [(c.text, c.theirs, own.ours or MISSING, own.verdict, own.why) for c, own in self.findings]
        return text_table("The paper’s claims", ("claim", "the paper", "ours", "verdict", "why"), rows)

    @cached_property
    def tasks(self) -> Table:
        """Adapters against full fine-tuning, a line per task, then means."""
        columns = columns_of(("task", "adapters", "full fine-tuning", "difference", "95% interval", "seeds"))
        lines = tuple(map(_line, self.main.differences))
        caption = (
            "Test scores × 100, each of the setting that validation chose. A task is compared on the seeds for which "
            "all planned settings of both methods have run. The interval of a task is Student’s paired interval over "
            "its seeds; that of a mean is a bootstrap over tasks, and over seeds within them (10,000 resamples)."
        )
        if self.main.unfinished:
            caption += f" Not compared yet: {listed(list(map(self._unfinished, self.main.unfinished)))}."
        return Table("Adapters and full fine-tuning", columns, (lines, tuple(self._means())), caption)

    def _unfinished(self, task: str) -> str:
        """A task with the trials that have run, if there are any."""
        counts = [self.evidence.pairing.progress(task, method) for method in (ADAPTERS, "full")]
        if not any(done for done, _ in counts):
            return title_of(task)
        (ours, of_ours), (theirs, of_theirs) = counts
        return f"{title_of(task)} ({ours} of {of_ours} trials of adapters, {theirs} of {of_theirs} of full fine-tuning)"

    def _means(self) -> Iterator[Row]:
        for title, suites in GROUPS.items():
            found = self.evidence.comparison("full", suites)
            if len(found.differences) > 1:
                name = f"mean of {title} ({len(found.differences)} of {found.num_tasks})"
                ours, theirs = (
                    fmean(map(fmean, scores)) for scores in zip(*((d.ours, d.theirs) for d in found.differences))
                )
                yield [Cell(name), *_compared(ours, theirs, found), Cell("")]

    @cached_property
    def context(self) -> Table | None:
        """Full fine-tuning of BERT-base elsewhere, for tasks that are compared here; None if there are none."""
        rows, compared = [], {own.task: own for own in self.main.differences}
        for name, theirs in BERT_BASE_ACCURACY.items():
            if name in compared and (runs := compared[name].runs).accuracy.notna().any():
                ours = (100 * runs.accuracy).groupby(runs.method).agg(fmean)
                numbers = [Cell.number(ours[method], form=".2f") for method in ("full", ADAPTERS)]
                rows.append((Cell(title_of(name)), Cell.number(*theirs, form=".2f"), *numbers))
        columns = columns_of(("task", "BERT-base, full", "ours, full fine-tuning", "ours, adapters"))
        return Table("Context: accuracy of BERT-base", columns, (tuple(rows),), BERT_BASE_SOURCE) if rows else None

    @cached_property
    def progress(self) -> Table:
        """How many trials of each part of the edition have run."""
        done = {identity_of(entry.trial) for entry in self.entries}
        counts = {name: [identity_of(trial) in done for trial in own] for name, own in in_parts(self.edition).items()}
        counts["all"] = [is_done for own in list(counts.values()) for is_done in own]
        rows = [(name, f"{sum(own):,}", f"{len(own):,}") for name, own in counts.items()]
        return text_table("What has run", ("part", "trials done", "planned"), rows)

    def sections(self) -> Iterator[Section]:
        """The sections of the page."""
        yield Section("claim", "The paper’s claims", self.headline, table=self.verdicts)
        yield Section("claim-tasks", "Adapters and full fine-tuning, task by task", table=self.tasks)
        if self.context:
            yield Section("context", "Full fine-tuning elsewhere", table=self.context)

    def markdown(self) -> str:
        """The headline and all tables."""
        tables = [self.progress, self.verdicts, self.tasks, *([self.context] if self.context else [])]
        return "\n".join([f"**{self.headline}**", "", *(table.markdown() for table in tables)])

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, points and scores × 100."""
        return {
            "headline": self.headline,
            "mean": self.main.mean if self.main.differences else None,
            "interval": self.main.interval,
            "tasks": [_task_json(own) for own in self.main.differences],
            "unfinished": list(self.main.unfinished),
            "claims": [
                {"claim": claim.text, "paper": claim.theirs, "ours": own.ours, "verdict": own.verdict, "why": own.why}
                for claim, own in self.findings
            ],
        }


def update_document(path: str | Path, report: ClaimReport) -> None:
    """Replace what stands between the markers of an edition's results in a text file.

    Raises:
        DataError: the file has no such markers.
    """
    replace_between(path, BEGIN.format(report.edition.name), END, f"\n\n{report.markdown()}\n")


def _line(found: TaskDifference) -> Row:
    marks = [SAMPLE] * bool(found.runs.is_sample.any()) + [SEEN] * (found.task in seen_by(found.runs.entry))
    name, seeds = Cell(title_of(found.task), tuple(marks)), Cell(f"{len(found.by_seed)} of {found.num_seeds}")
    return [name, *_compared(fmean(found.ours), fmean(found.theirs), found), seeds]


def _compared(ours: float, theirs: float, found: TaskDifference | PairedComparison) -> list[Cell]:
    """Both scores, their difference, and its interval."""
    scores = [Cell.number(score, form=".2f") for score in (ours, theirs)]
    interval = f"{signed(found.interval[0])} to {signed(found.interval[1])}" if found.interval else MISSING
    return [*scores, Cell.number(found.mean, form="+.2f"), Cell(interval)]


def _task_json(own: TaskDifference) -> dict[str, Any]:
    scores = {"adapters": list(own.ours), "full": list(own.theirs)}
    return {"task": own.task, **scores, "difference": own.mean, "interval": own.interval, "seeds": own.num_seeds}
