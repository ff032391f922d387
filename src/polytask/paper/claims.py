"""The paper's claims, each with what the results say of it: met, not met, or not enough trials yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import pandas as pd

from polytask.drawing.exhibit import Exhibit, NothingToShow, grouped
from polytask.evaluation.paired import PairedComparison, Pairing
from polytask.paper import ablation, sweeps
from polytask.paper.edition import Edition, identity, of_exhibit, trials
from polytask.paper.ledger import Entry
from polytask.paper.selection import ADAPTERS, family, runs_of
from polytask.paper.sweeps import CLOSE, num_close
from polytask.suites.tasks import Suite
from polytask.wording import signed

ALL: tuple[Suite, ...] = ("glue", "text17", "squad")
COMPARED = ("table1", "table2", "squad")
"""The plans whose trials are compared: those of the main tables and of SQuAD."""

INITIAL_STD = 1e-2
"""The largest initial standard deviation up to which the paper finds no difference."""

LAYER_COST = 2.0
"""The most, in per cent, that removing the adapters of one layer costs in the paper."""


@dataclass(frozen=True)
class Finding:
    """What the results say of a claim: ``is_met`` is None while trials are missing."""

    is_met: bool | None
    ours: str
    why: str

    @property
    def verdict(self) -> str:
        """``met``, ``not met`` or ``not enough trials yet``."""
        return {True: "met", False: "not met", None: "not enough trials yet"}[self.is_met]


class Evidence:
    """The results of an edition, as claims are judged by them."""

    def __init__(self, edition: Edition, entries: Sequence[Entry]) -> None:
        self.edition, self.entries = edition, entries

    @cached_property
    def pairing(self) -> Pairing:
        """The compared trials, planned and finished."""
        exhibits = [plan.exhibit for plan in self.edition.plans if plan.exhibit in COMPARED]
        planned = [trial for exhibit in exhibits for trial in trials(self.edition, exhibit)]
        rows = [(one.suite, one.task, family(one.method), one.seed, identity(one)) for one in planned]
        table = pd.DataFrame(rows, columns=["suite", "task", "method", "seed", "trial"]).drop_duplicates()
        runs = runs_of(self.entries)
        scores = 100 * runs[["test", "mismatched"]].mean(axis=1)  # MNLI's rows are one task
        return Pairing(table, runs.assign(trial=[identity(entry.trial) for entry in runs.entry], score=scores))

    def comparison(self, theirs: str, suites: Sequence[Suite] = ALL) -> PairedComparison:
        """Adapters against another method."""
        return self.pairing.compare(ADAPTERS, theirs, suites)


Judge = Callable[[Evidence], Finding]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, its figure, and the function that judges it."""

    text: str
    theirs: str
    judge: Judge


def better_by(margin: float, theirs: str, suites: Sequence[Suite] = ALL) -> Judge:
    """Whether adapters are at least ``margin`` points better than another method on the mean of the tasks."""

    def judge(evidence: Evidence) -> Finding:
        found = evidence.comparison(theirs, suites)
        if not found.differences:
            return Finding(None, "", f"no task has both methods finished ({found.num_tasks} planned)")
        if not found.is_complete:
            return Finding(None, found.in_words, f"both methods have finished {found.finished_in_words}")
        low, high = found.interval or (found.mean, found.mean)
        is_close = low < margin <= high
        doubt = "; the interval contains it: other tasks or seeds could change this" if is_close else ""
        return Finding(found.mean >= margin, found.in_words, f"the margin is {signed(margin)} points{doubt}")

    return judge


def at_most(limit: float, unit: str, measured: Callable[[Sequence[float]], float]) -> Judge:
    """Whether a number made of the shares of the backbone that GLUE's tasks train (heads included) is small enough."""

    def judge(evidence: Evidence) -> Finding:
        found = evidence.comparison("full", ("glue",))
        ours = [own.runs[own.runs.method == ADAPTERS].iloc[0] for own in found.differences]
        shares = [(run.trained + run["head"]) / run.backbone for run in ours]
        if not shares or found.unfinished:
            return Finding(None, "", f"{len(shares)} of {found.num_tasks} tasks are finished")
        value = measured(shares)
        return Finding(value <= limit, f"{value:.2f}{unit}", f"counted, heads included; the limit is {limit:g}{unit}")

    return judge


def shown_by(exhibit: Exhibit, test: Callable[[pd.DataFrame], Finding]) -> Judge:
    """A claim about an exhibit, judged by its rows when all trials of its plan have run."""

    def judge(evidence: Evidence) -> Finding:
        if exhibit.name not in {own.exhibit for own in evidence.edition.plans}:
            return Finding(None, "", f"the edition {evidence.edition.name} does not plan it")
        own = of_exhibit(evidence.entries, evidence.edition, exhibit.name)
        num_planned = len(list(trials(evidence.edition, exhibit.name)))
        if len(own) < num_planned:
            return Finding(None, "", f"{len(own)} of {num_planned} trials have run")
        try:
            return test(exhibit.rows(runs_of(own)))
        except NothingToShow as nothing:
            return Finding(None, "", str(nothing))

    return judge


def _costs_of_layers(rows: pd.DataFrame) -> Finding:
    """Whether removing the adapters of any one layer costs little."""
    single = rows[rows["first"] == rows["last"]]
    worst = single.sort_values(["change", "task", "first"], ascending=[True, False, False]).iloc[0]
    why = f"layer {worst['first']} on {worst.task}; the limit is {LAYER_COST:g}%"
    return Finding(bool(-worst.change <= LAYER_COST), f"{-worst.change:.1f}% at most", why)


def _initialisations(rows: pd.DataFrame) -> Finding:
    """Whether all small initial weights give the best score or nearly so."""
    small = rows[rows.init_std <= INITIAL_STD].fillna({"score": -1.0})
    lost = rows.groupby("task", sort=False).score.max() - small.groupby("task").score.min()
    ours, why = f"{lost.max():.1f} points below the best at most", f"standard deviations up to {INITIAL_STD:g}"
    return Finding(bool(lost.max() <= CLOSE), ours, f"on {lost.idxmax()}, {why}; one seed may differ so")


def _rates(rows: pd.DataFrame) -> Finding:
    """Whether adapters are near their best at more learning rates than full fine-tuning."""
    close = {
        method: sum(map(num_close, grouped(own, "task").values())) for method, own in grouped(rows, "method").items()
    }
    adapters, full = close.get(ADAPTERS, 0), close.get("full", 0)
    ours = f"{adapters} rates, full fine-tuning {full}"
    return Finding(adapters > full, ours, f"rates within {CLOSE:g} point of the method's best, all tasks together")


CLAIMS = (
    Claim("Within 0.8 points of full fine-tuning, over all tasks", "0.8 (abstract, GLUE)", better_by(-0.8, "full")),
    Claim("Within 0.8 points of full fine-tuning on GLUE", "−0.4 (Table 1)", better_by(-0.8, "full", ("glue",))),
    Claim(
        "Within 0.4 points of full fine-tuning on the 17 further tasks",
        "−0.4 (Table 2)",
        better_by(-0.4, "full", ("text17",)),
    ),
    Claim("Within 0.3 F1 of full fine-tuning on SQuAD", "−0.3 (Figure 5)", better_by(-0.3, "full", ("squad",))),
    Claim("Better than fine-tuning the top layers alone", "+5.9 on MNLI (Figure 4)", better_by(0.0, "top")),
    Claim("Better than LayerNorms alone", "+3 to +4 (Figure 4)", better_by(0.0, "layernorm")),
    Claim("Better than no BERT on the 17 further tasks", "+0.6 (Table 2)", better_by(0.0, "tfidf", ("text17",))),
    Claim(
        "At most 3.6% of the parameters for each task of GLUE",
        "3.6%; 2.1% with size 64 (Table 1)",
        at_most(3.6, "%", lambda shares: 100 * fmean(shares)),
    ),
    Claim(
        "At most 1.3 times one backbone for all of GLUE", "1.3× (Table 1)", at_most(1.3, "×", lambda own: 1 + sum(own))
    ),
    Claim(
        "Removing the adapters of one layer costs 2% at most",
        "2% (Figure 6)",
        shown_by(ablation.EXHIBIT, _costs_of_layers),
    ),
    Claim(
        "The same for initial standard deviations up to 1e-2",
        "flat (Figure 6)",
        shown_by(sweeps.INITIALISATION, _initialisations),
    ),
    Claim(
        "Good at more learning rates than full fine-tuning",
        "a wider range (Figure 7)",
        shown_by(sweeps.LEARNING_RATES, _rates),
    ),
)
