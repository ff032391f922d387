"""Passages show the text, all of it or a part, with the right words marked."""

from __future__ import annotations

from polytask.inference.occlusion import Effect
from polytask.reporting.page import Piece
from polytask.reporting.passages import passage, span_passages, weighed_passage
from polytask.reporting.wording import MAX_TEXT, cut


def shown(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece.text for piece in pieces)


def test_words_are_marked_by_their_share_of_the_strongest() -> None:
    effects = [Effect(0, 2, 6, 1.0), Effect(0, 7, 11, -0.5), Effect(0, 0, 1, 0.01)]
    pieces = weighed_passage("a good film", effects, 1.0)
    assert shown(pieces) == "a good film"
    assert [(piece.text, piece.weight) for piece in pieces if piece.weight] == [("good", 1.0), ("film", -0.5)]


def test_a_long_text_is_cut_around_its_strongest_word() -> None:
    text = "x " * 5000
    at = 8000
    pieces = weighed_passage(text, [Effect(0, at, at + 1, 1.0)], 1.0)
    assert [piece.text for piece in pieces if piece.weight] == ["x"]
    assert pieces[0].text == "… "
    assert "more characters" in pieces[-1].text
    assert len(shown(pieces)) < MAX_TEXT + 40
    assert shown(weighed_passage(text, [], 0.0)).startswith("x x")


def test_control_characters_are_escaped() -> None:
    assert shown(passage("a\u202eb\x00c\nd", [])) == r"a\u202eb\x00c d"
    assert cut("a\u202eb\x1b[31m") == r"a\u202eb\x1b[31m"
    assert cut("y" * 10_000, 20) == "y" * 19 + "…"


def test_an_answer_and_the_correct_one_are_marked_where_they_are() -> None:
    context = "they were raiders from Denmark"
    (pieces,) = span_passages(context, (10, 22), (18, 30))
    assert [(piece.text, piece.mark) for piece in pieces if piece.mark] == [
        ("raiders ", "bad"),
        ("from", "both"),
        (" Denmark", "good"),
    ]
    assert shown(pieces) == context


def test_answers_far_apart_have_a_passage_each() -> None:
    parts = span_passages("w " * 1000, (0, 3), (1500, 1503))
    assert [[piece.mark for piece in pieces if piece.mark] for pieces in parts] == [["bad"], ["good"]]
