"""Texts as the cards of the page show them: a part of the text, with words marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from polytask.errors import printable
from polytask.inference.occlusion import Effect
from polytask.reporting.page import Piece
from polytask.reporting.wording import MAX_TEXT

MIN_WEIGHT = 0.15
"""Words of less weight, as a share of the strongest word's, are not marked."""
MAX_WORD = 24
"""A part of a text begins and ends at a space, if there is one within so many characters."""
Marked = tuple[int, int, str, float]
"""Start, end, mark and weight of a part of a text; parts do not overlap."""


def weighed_passage(text: str, effects: Sequence[Effect], strongest: float) -> tuple[Piece, ...]:
    """A part of a text, its words marked by their effect as a share of ``strongest``."""
    parts: list[Marked] = []
    for effect in sorted(effects, key=lambda own: own.start):
        weight = effect.value / strongest if strongest else 0.0
        if abs(weight) >= MIN_WEIGHT:
            parts.append((effect.start, effect.end, "", weight))
    middle = max(parts, key=lambda own: abs(own[3]))[0] if parts else 0
    return passage(text, parts, middle)


def span_passages(context: str, answer: tuple[int, int], correct: tuple[int, int]) -> tuple[tuple[Piece, ...], ...]:
    """The part of a context with an answer and the correct one, or a part for each if they are far apart."""
    first, last = sorted((answer, correct))
    _, end = _window(context, first[0], MAX_TEXT)
    starts = [first[0]] if last[1] <= end else [first[0], last[0]]
    return tuple(passage(context, _marked_spans(answer, correct), start) for start in starts)


def _marked_spans(answer: tuple[int, int], correct: tuple[int, int]) -> list[Marked]:
    """Where only the answer is, where only the correct one is, and where both are."""
    ends = sorted({*answer, *correct})
    parts: list[Marked] = []
    for start, end in pairwise(ends):
        is_answer = answer[0] <= start < answer[1]
        is_correct = correct[0] <= start < correct[1]
        mark = {(True, True): "both", (True, False): "bad", (False, True): "good"}.get((is_answer, is_correct))
        parts += [] if mark is None else [(start, end, mark, 1.0)]
    return parts


def passage(text: str, parts: Sequence[Marked], middle: int = 0, longest: int = MAX_TEXT) -> tuple[Piece, ...]:
    """A part of ``text`` of at most ``longest`` characters around position ``middle``, cut into pieces.

    Args:
        text: the whole text.
        parts: what is marked, in reading order.
        middle: a position that is shown.
        longest: in characters.
    """
    begin, end = _window(text, middle, longest)
    pieces = [Piece("… ")] if begin else []
    at = begin
    for start, stop, mark, weight in parts:
        start, stop = max(start, at), min(stop, end)
        if start < stop:
            pieces += [Piece(_shown(text[at:start])), Piece(_shown(text[start:stop]), weight, mark)]
            at = stop
    pieces.append(Piece(_shown(text[at:end])))
    if end < len(text):
        pieces.append(Piece(f" … ({len(text) - end:,} more characters)"))
    return tuple(piece for piece in pieces if piece.text)


def _window(text: str, middle: int, longest: int) -> tuple[int, int]:
    """The start and end of the part that is shown, at spaces if there are any near."""
    if len(text) <= longest:
        return 0, len(text)
    begin = 0 if middle < longest * 2 // 3 else max(0, min(middle - longest // 3, len(text) - longest))
    end = min(len(text), begin + longest)
    if begin and (space := text.find(" ", begin, begin + MAX_WORD)) >= 0:
        begin = space + 1
    if end < len(text) and (space := text.rfind(" ", end - MAX_WORD, end)) >= 0:
        end = space
    return begin, end


def _shown(text: str) -> str:
    """The text with line breaks as spaces and control characters escaped."""
    return printable(text.replace("\r", " ").replace("\n", " ").replace("\t", " "))
