"""Scores of parts of the rows: by the length of the text, and of questions by their question word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from polytask.evaluation.metrics import score
from polytask.evaluation.significance import bootstrap_interval
from polytask.reporting.answered import Answered
from polytask.reporting.drawings import Interval, draw_intervals
from polytask.reporting.page import Picture, Section
from polytask.reporting.wording import metric_in_words
from polytask.wording import counted

NUM_LENGTHS = 5
MIN_ROWS = 5
"""Question words with fewer rows are counted as others."""
QUESTION_WORDS = ("who", "whom", "whose", "what", "when", "where", "which", "why", "how many", "how much", "how")
_QUESTION_WORD = re.compile(rf"\b({'|'.join(QUESTION_WORDS)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """The score of some rows by the adapter's metric, with its interval."""

    name: str
    rows: int
    score: float
    low: float
    high: float


def length_section(answered: Answered) -> Section | None:
    """Scores by quantiles of the number of tokens."""
    groups = by_length(answered)
    if len(groups) < 2:
        return None
    limit, is_span = answered.max_length, answered.kind == "span"
    longer = sum(count > limit for count in answered.num_tokens)
    split = is_span or answered.entry.header.recipe.get("long") == "split"
    said = f"{counted(longer, 'text')} of more than {limit:,} tokens {'was' if longer == 1 else 'were'}"
    said = f"{said} {'read in windows' if split else 'cut off there'}."
    svg = _drawn("lengths", groups, answered)
    return Section(
        "lengths",
        "Length of the text",
        said if longer else f"No text is longer than the {limit:,} tokens that are read.",
        pictures=(Picture(svg, "By quantiles of the number of tokens; rows in parentheses"),),
        data={"groups": [asdict(own) for own in groups], "longer_than_read": longer},
    )


def question_word_section(answered: Answered) -> Section | None:
    """Scores of questions by their question word."""
    of = [question_word(text) for text in answered.rows.texts]
    counts = {word: of.count(word) for word in dict.fromkeys(of)}
    of = [word if counts[word] >= MIN_ROWS else "other" for word in of]
    rows_of = {word: [row for row, own in enumerate(of) if own == word] for word in dict.fromkeys(of)}
    groups = sorted((scored(answered, word, rows) for word, rows in rows_of.items()), key=lambda own: own.score)
    if len(groups) < 2:
        return None
    svg = _drawn("words", groups, answered)
    return Section(
        "question_words",
        "Question words",
        f"Lowest for “{groups[0].name}”, highest for “{groups[-1].name}”.",
        pictures=(Picture(svg, "By the first question word; rows in parentheses"),),
        data={"groups": [asdict(own) for own in groups]},
    )


def _drawn(name: str, groups: Sequence[Group], answered: Answered) -> str:
    rows = [Interval(f"{own.name} ({own.rows:,})", own.score, own.low, own.high) for own in groups]
    return draw_intervals(name, rows, metric_in_words(answered.metric, answered.labels))


def question_word(question: str) -> str:
    """The first question word of a question, in lower case; ``other`` if it has none."""
    found = _QUESTION_WORD.search(question)
    return found[1].lower() if found else "other"


def by_length(answered: Answered, num_groups: int = NUM_LENGTHS) -> list[Group]:
    """Scores of groups of about equally many rows, shortest texts first. Texts of one length are in one group."""
    return [
        scored(answered, f"{low:,} tokens" if low == high else f"{low:,}–{high:,} tokens", rows)
        for low, high, rows in length_groups(answered.num_tokens, num_groups)
    ]


def length_groups(lengths: Sequence[int], num_groups: int) -> list[tuple[int, int, list[int]]]:
    """The shortest and the longest length of each group, and its rows."""
    ordered = sorted(lengths)
    ends = sorted({ordered[-(-len(ordered) * part // num_groups) - 1] for part in range(1, num_groups + 1)})
    groups = []
    before = -1
    for end in ends:
        rows = [row for row, length in enumerate(lengths) if before < length <= end]
        groups.append((min(lengths[row] for row in rows), end, rows))
        before = end
    return groups


def scored(answered: Answered, name: str, rows: Sequence[int]) -> Group:
    """The score of these rows."""
    targets, predictions = ([column[row] for row in rows] for column in (answered.targets, answered.predictions))
    given = (answered.metric, answered.kind, targets, predictions)
    num_labels = len(answered.labels)
    value = score(*given, num_labels=num_labels)
    return Group(name, len(rows), value, *bootstrap_interval(*given, num_labels=num_labels))
