"""The surest mistakes, with the words that drove them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.evaluation.calibration import logit
from polytask.inference.occlusion import Effect, word_effects
from polytask.inference.prediction import Prediction
from polytask.reporting.answered import Answered
from polytask.reporting.page import Card, Section
from polytask.reporting.passages import span_passages, weighed_passage
from polytask.reporting.wording import cut, listed, named, place, where
from polytask.suites import squad
from polytask.wording import counted

MAX_MISTAKES = 12
MAX_ALIKE = 3
"""The most mistakes that take the same label for the same other one."""
MAX_WORDS_IN_JSON = 10
CHUNK_MISTAKES = 3
"""Texts whose words are left out in one call."""
LEFT_OUT = (
    "Words are left out one at a time, in long texts a few together. The stronger the colour, the larger the effect."
)
LEGEND = f"{LEFT_OUT} Orange: without the word the adapter is less sure of its mistake. Blue: it is surer."
NUMBER_LEGEND = f"{LEFT_OUT} Orange: without the word the prediction is nearer to the truth. Blue: it is farther off."

Fact = tuple[str, str, str]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Attributes:
        row: its index.
        size: how sure the adapter was, or how far it was off; mistakes are listed by it.
        facts: what is said of it, with a class of the page.
        value: the number that is larger the more an answer tends to this mistake.
        data: what the JSON says of it.
        kind: mistakes of one kind are alike; None if there are no kinds.
    """

    row: int
    size: float
    facts: tuple[Fact, ...]
    value: Callable[[Prediction], float]
    data: dict[str, Any]
    kind: object = None


def mistake_section(answered: Answered) -> Section:
    """The surest mistakes; of numbers, the largest errors."""
    find = {"classification": wrong_labels, "multilabel": wrong_sets, "regression": large_errors}[answered.kind]
    found = sorted(find(answered), key=lambda mistake: -mistake.size)
    shown = varied(found)[:MAX_MISTAKES]
    effects = _effects(answered, shown)
    cards = [_card(answered, mistake, own) for mistake, own in zip(shown, effects, strict=True)]
    data = [
        {**where(answered.rows, mistake.row), **mistake.data, "words": _words(answered, mistake.row, own)}
        for mistake, own in zip(shown, effects, strict=True)
    ]
    if answered.kind == "regression":
        return Section(
            "mistakes", "Largest errors", cards=tuple(cards), remarks=(NUMBER_LEGEND,), data={"largest": data}
        )
    lead = f"{counted(len(found), 'row')} of {len(answered):,} {'is' if len(found) == 1 else 'are'} answered wrongly."
    return Section(
        "mistakes",
        "Surest mistakes",
        lead if found else "Every row is answered right.",
        cards=tuple(cards),
        remarks=(LEGEND,) if cards else (),
        data={"wrong_rows": len(found), "surest": data},
    )


def varied(found: Sequence[Mistake]) -> list[Mistake]:
    """The mistakes without those that have ``MAX_ALIKE`` of their kind before them."""
    seen: Counter[object] = Counter()
    kept = []
    for mistake in found:
        seen[mistake.kind] += 1
        kept += [mistake] if mistake.kind is None or seen[mistake.kind] <= MAX_ALIKE else []
    return kept


def wrong_labels(answered: Answered) -> Iterator[Mistake]:
    """Rows of a classification that were answered with another label."""
    for row, (given, true) in enumerate(zip(answered.predictions, answered.targets, strict=True)):
        if given == true:
            continue
        label, right = answered.labels[given], answered.labels[true]
        sure, of_right = answered.probs[row][given], answered.probs[row][true]
        facts = (
            ("answered", f"{named(label, 32)} {sure:.1%}", "bad"),
            ("label", f"{named(right, 32)} {of_right:.1%}", "good"),
        )
        data = {"label": right, "answered": label, "probability": sure, "probability_of_label": of_right}
        yield Mistake(row, sure, facts, _log_odds(label), data, (given, true))


def wrong_sets(answered: Answered) -> Iterator[Mistake]:
    """Rows of several labels with a label too many or one missing, by the label that is farthest off."""
    for row, (given, true) in enumerate(zip(answered.predictions, answered.targets, strict=True)):
        wrong = set(given) ^ set(true)
        if not wrong:
            continue
        off = {label: abs((label in true) - answered.probs[row][label]) for label in wrong}
        worst = max(off, key=off.__getitem__)
        label, is_extra = answered.labels[worst], worst in given
        sure = answered.probs[row][worst]
        said = ("wrongly" if is_extra else "missed", f"{named(label, 32)} {sure:.1%}", "bad")
        names = listed([named(answered.labels[index], 32) for index in sorted(true)], 5) or "none"
        data = {"labels": [answered.labels[index] for index in sorted(true)], "label": label}
        data |= {"was_given": is_extra, "probability": sure}
        yield Mistake(
            row, off[worst], (said, ("labels", names, "good")), _log_odds(label, 1 if is_extra else -1), data, worst
        )


def large_errors(answered: Answered) -> Iterator[Mistake]:
    """Rows of a regression by their absolute error."""
    for row, (given, true) in enumerate(zip(answered.predictions, answered.targets, strict=True)):
        sign = 1 if given > true else -1
        facts = (("predicted", f"{given:.3g}", "bad"), ("true", f"{true:.3g}", "good"))
        yield Mistake(row, abs(given - true), facts, _number(sign), {"predicted": given, "true": true})


def _log_odds(label: str, sign: int = 1) -> Callable[[Prediction], float]:
    return lambda prediction: sign * logit((prediction.probs or {})[label])


def _number(sign: int) -> Callable[[Prediction], float]:
    return lambda prediction: sign * (prediction.score or 0.0)


def _effects(answered: Answered, mistakes: list[Mistake]) -> list[list[Effect]]:
    found: list[list[Effect]] = []
    for start in range(0, len(mistakes), CHUNK_MISTAKES):
        answered.progress("leaving words out", start, len(mistakes))
        own = mistakes[start : start + CHUNK_MISTAKES]
        texts = [answered.texts[mistake.row] for mistake in own]
        values = [mistake.value for mistake in own]
        found += word_effects(answered.model, str(answered.entry), texts, values, max_words=max(answered.max_length, 1))
    answered.progress("leaving words out", len(mistakes), len(mistakes))
    return found


def _card(answered: Answered, mistake: Mistake, effects: list[Effect]) -> Card:
    text = answered.texts[mistake.row]
    sides = (text,) if isinstance(text, str) else text
    strongest = max((abs(effect.value) for effect in effects), default=0.0)
    passages = (
        weighed_passage(own, [effect for effect in effects if effect.side == side], strongest)
        for side, own in enumerate(sides)
    )
    return Card(place(answered.rows, mistake.row), mistake.facts, tuple(passages))


def _words(answered: Answered, row: int, effects: list[Effect]) -> list[list[Any]]:
    """The words with the strongest effects."""
    text = answered.texts[row]
    sides = (text,) if isinstance(text, str) else text
    strongest = sorted(effects, key=lambda effect: -abs(effect.value))[:MAX_WORDS_IN_JSON]
    return [[sides[own.side][own.start : own.end], round(own.value, 4)] for own in strongest]


def wrong_answer_section(answered: Answered) -> Section:
    """Questions whose answers share least with a correct one, the surest first."""
    scored = [
        (squad.f1(given[0].text, [own.text for own in correct]), -answered.scores[row][0], row)
        for row, (given, correct) in enumerate(zip(answered.predictions, answered.targets, strict=True))
    ]
    wrong = [own for own in sorted(scored) if own[0] < 1]
    cards, data = [], []
    for f1, sure, row in wrong[:MAX_MISTAKES]:
        (given,), correct = answered.predictions[row], answered.targets[row][0]
        context = answered.rows.pairs[row] if answered.rows.pairs else ""
        ends = [(own.start, own.start + len(own.text)) for own in (given, correct)]
        facts = (("answered", f"{cut(given.text, 60)} {-sure:.0%}", "bad"), ("correct", cut(correct.text, 60), "good"))
        question = weighed_passage(answered.rows.texts[row], [], 0)
        cards.append(Card(place(answered.rows, row), facts, (question, *span_passages(context, *ends))))
        said = {"answered": given.text, "correct": correct.text, "f1": f1, "score": -sure}
        data.append({**where(answered.rows, row), **said})
    verb = "is" if len(wrong) == 1 else "are"
    lead = f"{counted(len(wrong), 'question')} of {len(answered):,} {verb} not answered exactly."
    return Section(
        "mistakes",
        "Worst answers",
        lead if wrong else "Every question is answered right.",
        cards=tuple(cards),
        remarks=("Orange: what was answered. Green: the correct answer.",) if cards else (),
        data={"wrong_rows": len(wrong), "worst": data},
    )
