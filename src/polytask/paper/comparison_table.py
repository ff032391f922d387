"""Tables 1 and 2 as tables with footnotes, and what they say in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polytask.paper.caution import is_idle, on_idle
from polytask.paper.comparison import Comparison, Contender, Line, Outcome
from polytask.paper.contamination import backbone_in_words
from polytask.paper.exhibit import Entries, Exhibit
from polytask.paper.ledger import Entry
from polytask.paper.table import MISSING, Cell, Column, Row, Table
from polytask.paper.wording import and_so_on, apart, listed, number_of

SAMPLE = "a sample of the official rows: not comparable with the paper"
OTHER_ROWS = "not tested on all the official rows"
SEEN = "the backbone saw texts of this task in its own training"
NOT_RUN = "not run"
NO_BACKBONE = "no BERT"
"""The column of TF-IDF with logistic regression."""


def comparison_exhibit(name: str, in_paper: str, comparison: Comparison) -> Exhibit:
    """The exhibit that shows a comparison."""

    def outcome(entries: Entries) -> Outcome:
        return Outcome(comparison, entries)

    return Exhibit(
        name,
        comparison.title,
        in_paper,
        lambda entries: outcome(entries).rows(),
        lambda entries: comparison_reading(outcome(entries)),
        own_table=lambda entries: comparison_table(outcome(entries)),
        missing=lambda entries: outcome(entries).missing(),
    )


def comparison_table(outcome: Outcome) -> Table:
    """Our scores and the paper's, a line per task, then means and parameter counts."""
    columns = [Column("task", is_number=False), *(Column(c.name, "ours") for c in outcome.contenders)]
    columns += [Column(c.name, "paper") for c in outcome.contenders if c.published]
    scores = tuple(_score_row(outcome, line) for line in outcome.lines)
    means = [_mean_row(outcome, f"mean of {number_of(_num_tasks(outcome.shared), 'task')}", outcome.shared)]
    if len(outcome.unmarked) < len(outcome.shared):
        name = f"mean of the {_num_tasks(outcome.unmarked)} neither a sample nor seen"
        means.append(_mean_row(outcome, name, outcome.unmarked))
    sections = (scores, tuple(means), _parameter_rows(outcome))
    return Table(outcome.comparison.title, tuple(columns), sections, " ".join(_caption(outcome)))


def _score_row(outcome: Outcome, line: Line) -> Row:
    is_run = any(outcome.chosen[line.task, contender.name] for contender in outcome.contenders)
    cells = [Cell(line.title, tuple(_line_notes(outcome, line, is_run)))]
    cells += [_score_cell(outcome, line, contender, is_run) for contender in outcome.contenders]
    return [*cells, *(Cell.number(c.published.scores.get(line.name)) for c in outcome.contenders if c.published)]


def _line_notes(outcome: Outcome, line: Line, is_run: bool) -> Iterator[str]:
    """Footnotes on the whole line."""
    entries = outcome.entries_of(line.task)
    if not is_run:
        yield "all runs diverged" if entries else NOT_RUN
    scores = [entry.test if line.also is None else entry.also.get(line.also) for entry in entries]
    if line.name in outcome.samples:
        yield SAMPLE
    elif any(score.rows != line.rows[1] for score in scores if score):
        yield OTHER_ROWS
    caps = {e.trial.max_rows for e in entries if e.trial.max_rows and is_capped(e, line.rows[0])}
    yield from (f"trained on {cap:,} rows at most" for cap in sorted(caps))
    if entries and line.name in outcome.seen:
        yield SEEN


def is_capped(entry: Entry, official: int) -> bool:
    """Whether the edition's cap left rows out: the rows are the cap's, less up to a tenth held out."""
    cap = entry.trial.max_rows
    return cap is not None and official > cap and entry.data.get("train", 0) >= cap - cap // 10


def _score_cell(outcome: Outcome, line: Line, contender: Contender, is_run: bool) -> Cell:
    score = outcome.score(line, contender)
    if score is None:
        lost = outcome.num_diverged(line, contender)
        note = f"{number_of(lost, 'run')} diverged, no setting is whole" if lost else NOT_RUN
        return Cell(MISSING, (note,) if is_run else ())
    notes = [SAMPLE] if line.name in outcome.samples else []
    usual = max(len(choice.setting.entries) for choice in outcome.choices(contender))
    if score.num_seeds < usual:
        notes.append(f"{number_of(score.num_seeds, 'seed')} instead of {usual}")
    return Cell.number(score.percent.mean, score.percent.sem, notes=notes)


def _mean_row(outcome: Outcome, name: str, lines: Sequence[Line]) -> Row:
    sampled = (SAMPLE,) * any(line.name in outcome.samples for line in lines)
    cells = [Cell(name)]
    for contender in outcome.contenders:
        mean = outcome.mean(lines, contender)
        lacking = ("not run on all of these tasks",) if lines and outcome.choices(contender) else ()
        score, sem = (mean.percent.mean, mean.percent.sem) if mean else (None, None)
        cells.append(Cell.number(score, sem, notes=sampled if mean else lacking))
    return [*cells, *(Cell.number(outcome.published_mean(lines, c)) for c in outcome.contenders if c.published)]


def _parameter_rows(outcome: Outcome) -> tuple[Row, Row]:
    ours = [outcome.parameters(contender) for contender in outcome.contenders]
    theirs = [contender.published for contender in outcome.contenders if contender.published]
    totals = [Cell.number(own and own[1], form=".2f", unit="×") for own in ours]
    totals += [Cell.number(column.total, form=".4g", unit="×") for column in theirs]
    trained = [Cell.number(own and 100 * own[0], form=".2f", unit="%") for own in ours]
    trained += [Cell.number(column.trained, form=".4g", unit="%") for column in theirs]
    return [Cell("parameters in all, × one backbone"), *totals], [Cell("trained for each task"), *trained]


def _caption(outcome: Outcome) -> list[str]:
    chosen = [choice for contender in outcome.contenders for choice in outcome.choices(contender)]
    seeds = {choice.score.num_seeds for choice in chosen}
    fewest = f"{min(seeds)} to " if len(seeds) > 1 else ""
    ours = f"Ours: {backbone_in_words(outcome.entries)}, mean over {fewest}{number_of(max(seeds), 'seed')}"
    said = [f"{ours} ± standard error." if max(seeds) > 1 else f"{ours}."]
    said += [f"Paper: {outcome.comparison.theirs}.", *outcome.comparison.remarks]
    left_out = [line.title for line in outcome.lines if line not in outcome.shared]
    said += [f"Means leave out what not every method has: {and_so_on(left_out, 17)}."] if left_out else []
    return [*said, *_sizes_in_words(outcome), _trials_in_words(outcome), *_divergence_in_words(outcome)]


def _sizes_in_words(outcome: Outcome) -> Iterator[str]:
    """The sizes that a method was chosen from, if there are several."""
    for contender in outcome.contenders:
        sizes = {setting.size for line in outcome.lines for setting in outcome.competing(line.task, contender)} - {None}
        if len(sizes) > 1:
            yield f"{contender.name.capitalize()}: the best of {listed([str(size) for size in sorted(sizes)])}."  # type: ignore[type-var]


def _trials_in_words(outcome: Outcome) -> str:
    """How many settings each method was chosen from, and whether that was fair."""
    counts = {c.name: sorted({choice.num_settings for choice in outcome.choices(c)}) for c in outcome.contenders}
    shown = [f"{name} {' to '.join(map(str, dict.fromkeys((n[0], n[-1]))))}" for name, n in counts.items() if n]
    said = f"Settings to choose from for each task: {listed(shown)}."
    whole = [c.name for c in outcome.contenders if c.part_of is None]
    for task in {line.task for line in outcome.shared}:
        if len({choice.num_settings for name in whole if (choice := outcome.chosen[task, name])}) > 1:
            return f"{said} The methods had unequal numbers of trials."
    return said


def _divergence_in_words(outcome: Outcome) -> list[str]:
    lines = [line for line in outcome.lines if line.also is None]
    lost = {c.name: sum(outcome.num_diverged(line, c) for line in lines) for c in outcome.contenders}
    shown = [f"{count} of {name}" for name, count in lost.items() if count]
    return [f"Runs that diverged, counted as trials and never chosen: {listed(shown)}."] if shown else []


def comparison_reading(outcome: Outcome) -> str:
    """How far the main methods are from full fine-tuning, after what makes these distances mean little."""
    by_name = {contender.name: contender for contender in outcome.contenders}
    full = by_name.get("full")
    main = [by_name[name] for name in outcome.comparison.main if name in by_name]
    said = [sentence for contender in main if full and (sentence := _distance(outcome, contender, full))]
    if not said:
        return "Full fine-tuning and adapters were not both run on the same task, so nothing compares."
    return " ".join([*_warnings(outcome, by_name.get(NO_BACKBONE)), *said])


def _distance(outcome: Outcome, contender: Contender, full: Contender) -> str:
    """How far a method is from full fine-tuning; empty if one of them was not run on the same tasks."""
    lines = outcome.shared
    ours, base, parameters = outcome.mean(lines, contender), outcome.mean(lines, full), outcome.parameters(contender)
    if ours is None or base is None or parameters is None:
        return ""
    kind, _, size = contender.name.partition(" ")
    name = f"{kind.capitalize()} of size {size}" if size.isdigit() else contender.name.capitalize()
    words = apart(100 * (ours.mean - base.mean), "full fine-tuning")
    tasks = number_of(_num_tasks(lines), "task")
    published, published_base = (outcome.published_mean(lines, one) for one in (contender, full))
    theirs = ""
    if published is not None and published_base is not None:
        theirs = f" (in the paper {apart(published - published_base)} on the same tasks)"
    return (
        f"{name} are {words} on the mean of {tasks}, at {100 * parameters[0]:.1f}% of the parameters for each{theirs}."
    )


def _warnings(outcome: Outcome, words: Contender | None) -> Iterator[str]:
    """What makes a distance between two methods mean little."""
    lines = outcome.shared
    trained = [c for c in outcome.contenders if c.name != NO_BACKBONE and outcome.choices(c)]
    if len(trained) > 1 and lines and all(_is_level(outcome, line, trained) for line in lines):
        yield (
            "All methods trained on the backbone have the same score on every task; where it is that of the most "
            "frequent class, nothing was learnt."
        )
    elif idle := [line.title for line in lines if _is_idle(outcome, line, trained)]:
        yield on_idle(idle)
    of_words = outcome.mean(lines, words) if words else None
    means = [mean.mean for contender in trained if (mean := outcome.mean(lines, contender))]
    if of_words is not None and means and of_words.mean > max(means):
        ahead = apart(100 * (of_words.mean - max(means)), "every method on the backbone")
        yield f"Counted words (TF-IDF) are {ahead}."


def _is_level(outcome: Outcome, line: Line, contenders: Sequence[Contender]) -> bool:
    scores = [outcome.score(line, contender) for contender in contenders]
    return len({f"{score.percent.mean:.2f}" if score else MISSING for score in scores}) == 1


def _is_idle(outcome: Outcome, line: Line, contenders: Sequence[Contender]) -> bool:
    choices = [choice for contender in contenders if (choice := outcome.chosen[line.task, contender.name])]
    return is_idle(entry for choice in choices for entry in choice.setting.entries)


def _num_tasks(lines: Sequence[Line]) -> int:
    return len({line.mean_of for line in lines})
