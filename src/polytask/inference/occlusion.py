"""Measures which words an answer depends on: leaves out each word once and records how the answer changes.

Words are removed from the text itself and the adapter answers again. So this works for every backbone, method and kind
of head, and a word's effect is what a user would see after deleting it. If two words mean the same, neither has one.

Source: Li, Monroe and Jurafsky, Understanding Neural Networks through Representation Erasure, arXiv:1612.08220.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from polytask.inference.inputs import Text
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction

MAX_UNITS = 48
"""The most pieces of a text that are left out, one at a time. In longer texts a piece has several words."""
_WITHOUT_SPACES = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters of scripts without spaces between words; each counts as a word."""
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|[^\s{_WITHOUT_SPACES}]{{1,40}}")


@dataclass(frozen=True)
class Effect:
    """The contribution of one or more neighbouring words to an answer.

    Attributes:
        side: 0 for the text, 1 for the second text of a pair.
        start: where the words start, in characters.
        end: where they end.
        value: how much larger the answer is with the words than without them.
    """

    side: int
    start: int
    end: int
    value: float


def word_effects(
    model: MultiTask,
    task: str,
    texts: Sequence[Text],
    values: Sequence[Callable[[Prediction], float]],
    *,
    max_words: int = 512,
) -> list[list[Effect]]:
    """Measure how much the words of each text contribute to its answer.

    Args:
        model: answers the texts.
        task: the adapter, as for ``MultiTask.predict``.
        texts: texts or pairs of texts, ``[B]``.
        values: the number of interest of each text's answer, such as the log-odds of a label, ``[B]``.
        max_words: only the first words of each text are left out; the rest is probably truncated.

    Returns:
        The effects of each text in reading order, ``[B]``. A text of one word has none, because nothing would be left.
    """
    places = [_removable(text, max_words) for text in texts]
    variants = [_without(text, *place) for text, own in zip(texts, places, strict=True) for place in own]
    answers = iter(model.predict([*texts, *variants], task, calibrated=False, abstain=False))
    whole = [value(next(answers)) for value in values]
    return [
        [Effect(*place, before - value(next(answers))) for place in own]
        for own, value, before in zip(places, values, whole, strict=True)
    ]


def _removable(text: Text, max_words: int) -> list[tuple[int, int, int]]:
    """The side, start and end of each piece that can be left out."""
    sides = (text,) if isinstance(text, str) else text
    words = [(side, *word) for side, own in enumerate(sides) for word in _words(own, max_words)]
    size = -(-len(words) // MAX_UNITS)
    pieces = [piece for side in range(len(sides)) for piece in _pieces([w for w in words if w[0] == side], size)]
    return [piece for piece in pieces if _has_rest(sides[piece[0]], *piece[1:])]


def _words(text: str, max_words: int) -> Iterator[tuple[int, int]]:
    for number, found in enumerate(_WORD.finditer(text)):
        if number == max_words:
            return
        yield found.span()


def _pieces(words: Sequence[tuple[int, int, int]], size: int) -> Iterator[tuple[int, int, int]]:
    """Every ``size`` neighbouring words as one piece."""
    for at in range(0, len(words), max(size, 1)):
        own = words[at : at + size]
        yield own[0][0], own[0][1], own[-1][2]


def _has_rest(text: str, start: int, end: int) -> bool:
    return bool(text[:start].strip() or text[end:].strip())


def _without(text: Text, side: int, start: int, end: int) -> Text:
    if isinstance(text, str):
        return text[:start] + text[end:]
    first, second = (own[:start] + own[end:] if number == side else own for number, own in enumerate(text))
    return first, second
